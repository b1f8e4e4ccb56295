"""The children that serve streams: their messages, and both servers on a tiny model."""

from pathlib import Path

import pytest

from shortstack.bench.open_bench import Watcher
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.loops import Extent, closed_loop
from shortstack.bench.serve.peers import open_peers
from shortstack.bench.serve.plan import PeerName, ServePlan
from shortstack.bench.serve.result import Outcome
from shortstack.bench.serve.senders import Ends, PeerSender
from shortstack.bench.serve.stream_messages import (
    StreamOrder,
    StreamTokens,
    decode_stream_order,
    decode_stream_tokens,
    encode_message,
)
from shortstack.bench.serve.stream_peer import StreamPeer
from shortstack.bench.serve.workload import WorkItem
from shortstack.bench.shapes import ModelShape
from shortstack.bench.synth import SynthSpec, write_synthetic_model
from shortstack.bench.torch_messages import Order
from shortstack.bench.torch_peer import ModelChoice, TorchPeer

TINY = ModelShape(4, 64, 128, 4, 2, vocab_size=512)
PROMPTS = [BenchPrompt(f"p{i}", "made", tuple(range(300 + i, 305 + 2 * i))) for i in range(4)]
ENDS = Ends((2,))


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> ModelChoice:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic_model(folder, SynthSpec(TINY, 0.8, 2))
    return ModelChoice(folder, num_threads=1)


def test_messages_survive_the_wire() -> None:
    order = StreamOrder(3, (1, 2), 8, (2,))
    assert decode_stream_order(encode_message(order)) == order
    tokens = StreamTokens(3, (7, 8), is_last=True, error="gone")
    assert decode_stream_tokens(encode_message(tokens)) == tokens


@pytest.mark.timeout(180)
async def test_both_servers_stream_the_tokens_of_plain_decoding(choice: ModelChoice) -> None:
    items = [WorkItem(i, prompt, 8 + 4 * i) for i, prompt in enumerate(PROMPTS)]
    async with TorchPeer("plain", choice) as plain:
        expected = {
            prompt.prompt_id: (await plain.generate(Order(prompt.token_ids, 20, (2,)))).token_ids
            for prompt in PROMPTS
        }
    for server in PeerName:
        async with StreamPeer(server.value, choice, "sdpa", 4096, False) as peer:
            assert peer.ready.num_threads == 1
            assert "sdpa attention" in peer.ready.details
            sender = PeerSender(server.value, peer, ENDS)
            run = await closed_loop(sender, iter(items), 3, Extent(len(items)))
        assert {each.outcome for each in run.results} == {Outcome.DONE}
        for each in run.results:
            whole = expected[each.item.prompt.prompt_id]
            assert each.token_ids == whole[: each.item.max_new_tokens]
            # A message per token, not one at the end.
            assert each.lens == (1,) * len(each.token_ids)


async def test_orders_of_a_child_that_is_gone_fail_with_its_reason(choice: ModelChoice) -> None:
    async with StreamPeer("hf", choice, "sdpa", 4096, False) as peer:
        sender = PeerSender("hf", peer, ENDS)
        item = WorkItem(0, BenchPrompt("bad", "made", (10**9,)), 8)
        result = await sender.send(item, 0)
        again = await sender.send(item, 0)
    assert (result.outcome, again.outcome) == (Outcome.FAILED, Outcome.FAILED)
    assert "hf peer ended with status" in result.error


async def test_a_peer_that_does_not_run_is_set_aside(tmp_path: Path) -> None:
    plan = ServePlan(ModelChoice(tmp_path), PROMPTS, peers=(PeerName.HF,), is_tuned=False)
    async with open_peers(plan, ENDS, Watcher()) as peers:
        assert peers.senders == []
        assert "config.json" in peers.missing["hf"]
