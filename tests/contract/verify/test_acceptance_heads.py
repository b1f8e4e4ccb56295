"""Acceptance heads in cells on real ports: told while somebody drafts with them."""

from pathlib import Path

from shared.model.layer_stack import Heads, LayerStack
from shared.model.plain import PlainDecoder
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SamplingParams, StopParams
from tests.contract.verify.conftest import StartWorker, generate, ids_of, make_request
from tests.contract.verify.test_split_cell import PROMPT, speculation_is, start_pair
from tests.head_builder import WIDTH, make_heads

TOLD = pb.AcceptanceHeadsInfo(width=WIDTH, exit_layers=[1, 3])


async def test_heads_are_told_while_their_draft_worker_is_attached(
    start_worker: StartWorker, stack: LayerStack, plain: PlainDecoder, tmp_path: Path
) -> None:
    draft_stack = LayerStack(
        stack.config,
        num_layers=1,
        heads=Heads.DRAFT,
        acceptance_heads=make_heads(stack.config, (1, 3)),
    )
    host, draft = await start_pair(start_worker, draft_stack, tmp_path)
    messages = await generate(host, make_request(PROMPT, 30))
    assert ids_of(messages) == plain.generate(PROMPT, SamplingParams(), StopParams(30)).token_ids
    assert (await host.info()).acceptance_heads == TOLD
    assert (await draft.stub.GetDraftInfo(pb.GetDraftInfoRequest())).acceptance_heads == TOLD
    await draft.stop()
    await speculation_is(host, "NOT_SERVING")
    assert not (await host.info()).HasField("acceptance_heads")
