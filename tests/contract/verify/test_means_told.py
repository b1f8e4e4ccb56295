"""What drafts are made with, in cells on real ports: told while somebody drafts with it."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from shared.model.layer_stack import Heads, LayerStack
from shared.model.plain import PlainDecoder
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SamplingParams, StopParams
from tests.adapter_builder import RANK, make_adapters
from tests.contract.verify.conftest import StartWorker, generate, ids_of, make_request
from tests.contract.verify.test_split_cell import PROMPT, speculation_is, start_pair
from tests.head_builder import WIDTH, make_heads

EXITS = (1, 3)


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("exit_adapters", make_adapters, pb.ExitAdaptersInfo(rank=RANK, exit_layers=EXITS)),
        ("acceptance_heads", make_heads, pb.AcceptanceHeadsInfo(width=WIDTH, exit_layers=EXITS)),
    ],
    ids=["adapters", "heads"],
)
async def test_means_are_told_while_their_draft_worker_is_attached(
    name: str,
    make: Any,
    told: Message,
    start_worker: StartWorker,
    stack: LayerStack,
    plain: PlainDecoder,
    tmp_path: Path,
) -> None:
    means = {name: make(stack.config, EXITS)}
    draft_stack = LayerStack(stack.config, num_layers=1, heads=Heads.DRAFT, **means)
    host, draft = await start_pair(start_worker, draft_stack, tmp_path)
    messages = await generate(host, make_request(PROMPT, 30))
    assert ids_of(messages) == plain.generate(PROMPT, SamplingParams(), StopParams(30)).token_ids
    assert messages[-1].finished.speculation.num_drafts > 3
    assert getattr(await host.info(), name) == told
    assert getattr(await draft.stub.GetDraftInfo(pb.GetDraftInfoRequest()), name) == told
    await draft.stop()
    await speculation_is(host, "NOT_SERVING")
    assert not (await host.info()).HasField(name)
