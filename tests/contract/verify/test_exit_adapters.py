"""Exit adapters in cells on real ports: told while somebody drafts through them."""

from pathlib import Path

from shared.model.layer_stack import Heads, LayerStack
from shared.model.plain import PlainDecoder
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SamplingParams, StopParams
from tests.adapter_builder import RANK, make_adapters
from tests.contract.verify.conftest import StartWorker, generate, ids_of, make_request
from tests.contract.verify.test_split_cell import PROMPT, speculation_is, start_pair

TOLD = pb.ExitAdaptersInfo(rank=RANK, exit_layers=[1, 3])


async def test_adapters_are_told_while_their_draft_worker_is_attached(
    start_worker: StartWorker, stack: LayerStack, plain: PlainDecoder, tmp_path: Path
) -> None:
    draft_stack = LayerStack(
        stack.config,
        num_layers=1,
        heads=Heads.DRAFT,
        exit_adapters=make_adapters(stack.config, (1, 3)),
    )
    host, draft = await start_pair(start_worker, draft_stack, tmp_path)
    messages = await generate(host, make_request(PROMPT, 30))
    assert ids_of(messages) == plain.generate(PROMPT, SamplingParams(), StopParams(30)).token_ids
    assert messages[-1].finished.speculation.num_drafts > 3
    assert (await host.info()).exit_adapters == TOLD
    assert (await draft.stub.GetDraftInfo(pb.GetDraftInfoRequest())).exit_adapters == TOLD
    await draft.stop()
    await speculation_is(host, "NOT_SERVING")
    assert not (await host.info()).HasField("exit_adapters")
