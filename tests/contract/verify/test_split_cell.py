"""A split cell: both workers on real ports, and the draft worker's failures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.model.layer_stack import Heads, LayerStack, load_stack
from shared.model.plain import PlainDecoder
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import sampling_from_proto
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.vocabulary import StopParams
from tests.contract.hosts import DraftHost, VerifyHost, health_of, rest_of
from tests.contract.verify.conftest import StartWorker, generate, ids_of, make_request
from tests.model_builder import EOS_ID, VOCAB_SIZE, write_model
from tests.polling import poll_until

PROMPT = [5, 17, 60, 33]
SAMPLING = pb.SamplingParams(temperature=0.9, seed=4, repetition_penalty=1.1)


@pytest.fixture(scope="module")
def draft_stack(stack: LayerStack) -> Iterator[LayerStack]:
    """The draft worker's own stack."""
    yield load_stack(stack.config.path, num_layers=1)


async def speculation_is(host: VerifyHost, status: str) -> None:
    """Wait until health says this of speculation."""

    async def holds() -> bool:
        return await health_of(host.channel, "speculation") == status

    await poll_until(holds)


async def start_pair(
    start_worker: StartWorker, draft_stack: LayerStack, folder: Path
) -> tuple[VerifyHost, DraftHost]:
    """Start both workers, the verify worker first, and wait until they are attached."""
    target = f"unix:{folder}/draft.sock"
    host = await start_worker(cell_kind="split", draft_target=target)
    assert await health_of(host.channel, "speculation") == "NOT_SERVING"
    draft = await DraftHost(draft_stack, folder, target).start()
    await speculation_is(host, "SERVING")
    return host, draft


@pytest.mark.parametrize("sampling", [pb.SamplingParams(), SAMPLING], ids=["greedy", "sampled"])
async def test_a_split_cell_streams_the_text_of_plain_decoding(
    sampling: pb.SamplingParams,
    start_worker: StartWorker,
    draft_stack: LayerStack,
    plain: PlainDecoder,
    tmp_path: Path,
) -> None:
    host, draft = await start_pair(start_worker, draft_stack, tmp_path)
    messages = await generate(host, make_request(PROMPT, 40, sampling=sampling))
    expected = plain.generate(PROMPT, sampling_from_proto(sampling, VOCAB_SIZE), StopParams(40))
    assert ids_of(messages) == expected.token_ids
    assert messages[-1].finished.speculation.num_drafts > 3
    info = await host.info()
    assert (info.cell_kind, info.transport, info.num_draft_workers) == ("split", "shm", 1)
    assert info.counters.num_fenced_rounds == info.counters.num_late_responses == 0
    assert not info.HasField("draft_vocab")
    told = await draft.stub.GetDraftInfo(pb.GetDraftInfoRequest())
    assert told.attached_boot_id == info.boot_id
    assert told.num_rounds == messages[-1].finished.speculation.num_drafts
    await draft.stop()


async def test_a_draft_vocabulary_is_told_while_its_draft_worker_is_attached(
    start_worker: StartWorker, stack: LayerStack, plain: PlainDecoder, tmp_path: Path
) -> None:
    vocab = DraftVocab(VOCAB_SIZE, "", 0.25, ("made up",), (EOS_ID, 5, 17, 60))
    draft_stack = LayerStack(stack.config, num_layers=1, heads=Heads.DRAFT, draft_vocab=vocab)
    host, draft = await start_pair(start_worker, draft_stack, tmp_path)
    messages = await generate(host, make_request(PROMPT, 30))
    greedy = sampling_from_proto(pb.SamplingParams(), VOCAB_SIZE)
    assert ids_of(messages) == plain.generate(PROMPT, greedy, StopParams(30)).token_ids
    assert messages[-1].finished.speculation.num_drafts > 3
    told = (await host.info()).draft_vocab
    assert (told.num_tokens, told.coverage) == (4, 0.25)
    assert (await draft.stub.GetDraftInfo(pb.GetDraftInfoRequest())).draft_vocab == told
    await draft.stop()
    await speculation_is(host, "NOT_SERVING")
    assert not (await host.info()).HasField("draft_vocab")


async def test_losing_the_draft_worker_costs_speed_and_its_successor_brings_it_back(
    start_worker: StartWorker, draft_stack: LayerStack, plain: PlainDecoder, tmp_path: Path
) -> None:
    host, draft = await start_pair(start_worker, draft_stack, tmp_path)
    call = host.stub.Generate(make_request(PROMPT, 1500))
    messages: list[pb.GenerateResponse] = []
    while len(ids_of(messages)) < 100:
        messages.append(await call.read())
    await draft.stop()
    messages += await rest_of(call)
    greedy = sampling_from_proto(pb.SamplingParams(), VOCAB_SIZE)
    assert ids_of(messages) == plain.generate(PROMPT, greedy, StopParams(1500)).token_ids
    speculation = messages[-1].finished.speculation
    assert speculation.num_drafts > 3 and speculation.num_plain_rounds > 3
    await speculation_is(host, "NOT_SERVING")
    assert (await host.info()).num_draft_workers == 0

    successor = await DraftHost(draft_stack, tmp_path, draft.address, "draft-2").start()
    await speculation_is(host, "SERVING")
    messages = await generate(host, make_request(PROMPT, 40))
    assert messages[-1].finished.speculation.num_drafts > 3
    await poll_until(host.memory_is_free)
    await successor.stop()


async def test_a_draft_worker_with_another_model_is_never_attached(
    start_worker: StartWorker, tmp_path: Path, plain: PlainDecoder
) -> None:
    other = load_stack(write_model(tmp_path / "other", seed=9))
    target = f"unix:{tmp_path}/draft.sock"
    draft = await DraftHost(other, tmp_path, target).start()
    host = await start_worker(cell_kind="split", draft_target=target)
    messages = await generate(host, make_request(PROMPT, 20))
    greedy = sampling_from_proto(pb.SamplingParams(), VOCAB_SIZE)
    assert ids_of(messages) == plain.generate(PROMPT, greedy, StopParams(20)).token_ids
    assert messages[-1].finished.speculation.num_drafts == 0
    assert await health_of(host.channel, "speculation") == "NOT_SERVING"
    assert await health_of(host.channel) == "SERVING"
    await draft.stop()
