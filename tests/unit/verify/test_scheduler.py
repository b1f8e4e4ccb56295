"""Plans as tables: who prefills how much, who decodes with what decision."""

import pytest

from services.verify.scheduler import SchedulerLimits, make_plan
from services.verify.session import Session
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision
from tests.unit.verify.builders import WISHED, make_session

LIMITS = SchedulerLimits(max_context_len=64, max_rows=8, prefill_chunk_len=10, max_unread=100)


def decode(name: str, **options: int) -> Session:
    return make_session(name, num_generated=1, **options)  # type: ignore[arg-type]


def test_nothing_to_do_is_an_empty_plan() -> None:
    plan = make_plan([], LIMITS, has_draft_worker=True)
    assert plan.is_empty
    assert plan.drafting == []


@pytest.mark.parametrize(
    ("prompt_lens", "num_run", "ends"),
    [
        ([4], [0], [4]),
        ([10], [0], [10]),
        ([25], [0], [10]),
        ([25], [10], [20]),
        ([25], [20], [25]),
        ([4, 4], [0, 0], [4, 4]),
        ([8, 8], [0, 0], [8, 2]),
        ([8, 8], [6, 0], [8, 8]),
        ([10, 8], [0, 0], [10]),
        ([12, 8, 3], [0, 0, 0], [10]),
    ],
)
def test_prompts_share_the_rows_of_a_chunk_in_order_of_admission(
    prompt_lens: list[int], num_run: list[int], ends: list[int]
) -> None:
    sessions = [make_session(f"s{i}", range(3, 3 + n)) for i, n in enumerate(prompt_lens)]
    for session, done in zip(sessions, num_run, strict=True):
        session.num_run = done
    plan = make_plan(sessions, LIMITS, has_draft_worker=True)
    assert [prefill.end for prefill in plan.prefills] == ends
    assert [prefill.session for prefill in plan.prefills] == sessions[: len(ends)]
    assert not plan.decoding


def test_running_sessions_decode_beside_a_prefill() -> None:
    sessions = [make_session("long", range(3, 40)), decode("running")]
    plan = make_plan(sessions, LIMITS, has_draft_worker=True)
    assert [(prefill.session, prefill.end) for prefill in plan.prefills] == [(sessions[0], 10)]
    assert plan.decoding == ((sessions[1], WISHED),)
    assert plan.drafting == [(sessions[1], WISHED)]


def test_a_session_whose_client_does_not_read_is_paused() -> None:
    sessions = [decode("slow", num_unread=100), decode("quick", num_unread=99)]
    plan = make_plan(sessions, LIMITS, has_draft_worker=True)
    assert [session for session, _ in plan.decoding] == [sessions[1]]


def test_without_a_draft_worker_every_round_is_plain() -> None:
    plan = make_plan([decode("a"), decode("b")], LIMITS, has_draft_worker=False)
    assert [decision.is_off for _, decision in plan.decoding] == [True, True]
    assert [decision.reason for _, decision in plan.decoding] == ["no_draft_worker"] * 2
    assert not plan.drafting and not plan.is_empty


@pytest.mark.parametrize(
    ("prompt_len", "max_new_tokens", "num_generated", "draft_len"),
    [
        # tokens left: max_new_tokens - num_generated; one of them is the verdict's own.
        (3, 20, 1, 7),
        (3, 9, 1, 7),
        (3, 8, 1, 6),
        (3, 3, 1, 1),
        (3, 2, 1, 0),
        # context left: 64 - committed_len.
        (54, 100, 1, 7),
        (56, 100, 1, 6),
        (61, 100, 1, 1),
        (62, 100, 1, 0),
    ],
)
def test_a_draft_is_no_longer_than_the_session_has_room_for(
    prompt_len: int, max_new_tokens: int, num_generated: int, draft_len: int
) -> None:
    session = make_session(
        "s",
        range(3, 3 + prompt_len),
        max_new_tokens,
        wished=Decision(LAYERSKIP, 2, 7),
        num_generated=num_generated,
    )
    plan = make_plan([session], LIMITS, has_draft_worker=True)
    [(_, decision)] = plan.decoding
    assert decision.max_draft_len == draft_len
    assert decision.is_off == (draft_len == 0)


def test_a_session_that_asked_for_no_drafts_gets_none() -> None:
    session = make_session("s", num_generated=1, wished=PLAIN_DECISION)
    plan = make_plan([session], LIMITS, has_draft_worker=True)
    assert plan.decoding == ((session, PLAIN_DECISION),)
