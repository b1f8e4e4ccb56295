"""Rounds as messages: what is written is what is read."""

from dataclasses import replace

import pytest

from shared.errors import InvalidRequest
from shared.ids import SessionId, TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.rounds import draft_from_proto, draft_to_proto, task_from_proto, task_to_proto
from shared.speculation.vocabulary import (
    Decision,
    Draft,
    Extent,
    RoundTask,
    SamplingParams,
    ShadowRead,
    TreeBudget,
)

TASK = RoundTask(
    session_id=SessionId("s"),
    round_index=3,
    extents=(Extent(0, 8), Extent(12, 2)),
    exit_slot=1,
    pending_tokens=(TokenId(9),),
    committed_len=5,
    prompt_len=2,
    decision=Decision("layerskip", 6, 4, 0.5),
    sampling=SamplingParams(0.5, seed=7, top_p=0.5, logit_bias=((3, 0.5),)),
    stop_token_ids=frozenset({2, 8}),
    shadow_exits=(2, 3, 4),
)
DRAFT = Draft(
    session_id=SessionId("s"),
    round_index=3,
    draft_tokens=(TokenId(7), TokenId(8)),
    confidences=(0.5, 0.25),
    exit_slot=1,
    queue_ns=1,
    started_ns=2,
    draft_ns=3,
    shadow=(
        ShadowRead(2, (TokenId(7), TokenId(0), TokenId(4)), (0.5, 0.0, 1.0)),
        ShadowRead(3, (TokenId(7), TokenId(8), TokenId(4)), (0.125, 0.75, 0.5)),
    ),
)


def test_a_round_is_read_as_it_was_written() -> None:
    sent = task_to_proto(TASK, boot_id=77, max_rows=8).SerializeToString()
    message = pb.RoundTask.FromString(sent)
    assert list(message.shadow_exits) == [2, 3, 4]
    assert message.kv_handle.boot_id == 77
    assert task_from_proto(message, vocab_size=50) == TASK


def test_a_round_that_goes_by_chances_says_so() -> None:
    task = replace(TASK, decision=replace(TASK.decision, by_chance=True))
    message = pb.RoundTask.FromString(task_to_proto(task, 77, 8).SerializeToString())
    assert task_from_proto(message, vocab_size=50) == task


def test_a_draft_is_read_as_it_was_written() -> None:
    message = pb.RoundDraft.FromString(draft_to_proto(DRAFT).SerializeToString())
    assert [each.exit_layer for each in message.shadow_exits] == [2, 3]
    assert draft_from_proto(message) == DRAFT


def test_a_tree_is_read_as_it_was_written() -> None:
    tree = TreeBudget(12, 3, 0.25)
    task = replace(TASK, decision=replace(TASK.decision, tree=tree))
    sent = task_to_proto(task, boot_id=77, max_rows=13).SerializeToString()
    assert task_from_proto(pb.RoundTask.FromString(sent), vocab_size=50) == task
    draft = replace(DRAFT, parents=(-1, -1))
    sent = draft_to_proto(draft).SerializeToString()
    assert draft_from_proto(pb.RoundDraft.FromString(sent)) == draft


@pytest.mark.parametrize("field", ["max_nodes", "max_width"])
def test_a_tree_of_nothing_is_refused(field: str) -> None:
    decision = replace(TASK.decision, tree=TreeBudget(12, 3, 0.25))
    message = task_to_proto(replace(TASK, decision=decision), boot_id=77, max_rows=13)
    setattr(message.tree, field, 0)
    with pytest.raises(InvalidRequest, match=field):
        task_from_proto(message, vocab_size=50)


def test_a_draft_without_evidence_has_none_on_the_wire() -> None:
    bare = Draft(SessionId("s"), 3, (TokenId(7),), (0.5,))
    assert not draft_to_proto(bare).shadow_exits
    assert draft_from_proto(draft_to_proto(bare)) == bare
