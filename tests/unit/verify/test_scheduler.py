"""Plans as tables: who prefills how much, who decodes with what decision."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import pytest

from services.verify.scheduler import Plan, SchedulerLimits, make_plan
from services.verify.session import Session
from shared.control.fair_queue import Priority
from shared.control.load_governor import LoadGovernor
from shared.control.policies.registry import GOODPUT
from shared.control.policies.static import NAME as STATIC
from shared.control.row_budget import RowBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_book import StreamBook
from shared.control.skip_search.stream_record import Phase
from shared.control.step_costs import StepCosts
from shared.control.steps import SessionLoad
from shared.speculation.arm import arm_of
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, SWIFT, Decision
from tests.unit.verify.builders import WISHED, make_session

SKIPPING = arm_of(SWIFT, 0)
LIMITS = SchedulerLimits(
    max_context_len=64, max_rows=8, prefill_chunk_len=10, max_unread=100, sheds=False
)


def plan_of(sessions: list[Session], *, has_draft_worker: bool = True) -> Plan:
    governor = LoadGovernor(StepCosts(num_layers=4))
    return make_plan(sessions, LIMITS, governor, has_draft_worker=has_draft_worker)


def decode(name: str, **options: int) -> Session:
    return make_session(name, num_generated=1, **options)  # type: ignore[arg-type]


def test_nothing_to_do_is_an_empty_plan() -> None:
    plan = plan_of([], has_draft_worker=True)
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
    plan = plan_of(sessions, has_draft_worker=True)
    assert [prefill.end for prefill in plan.prefills] == ends
    assert [prefill.session for prefill in plan.prefills] == sessions[: len(ends)]
    assert not plan.decoding


def test_running_sessions_decode_beside_a_prefill() -> None:
    sessions = [make_session("long", range(3, 40)), decode("running")]
    plan = plan_of(sessions, has_draft_worker=True)
    assert [(prefill.session, prefill.end) for prefill in plan.prefills] == [(sessions[0], 10)]
    assert plan.decoding == ((sessions[1], WISHED),)
    assert plan.drafting == [(sessions[1], WISHED)]


def test_a_session_whose_client_does_not_read_is_paused() -> None:
    sessions = [decode("slow", num_unread=100), decode("quick", num_unread=99)]
    plan = plan_of(sessions, has_draft_worker=True)
    assert [session for session, _ in plan.decoding] == [sessions[1]]


def test_without_a_draft_worker_every_round_is_plain() -> None:
    plan = plan_of([decode("a"), decode("b")], has_draft_worker=False)
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
    plan = plan_of([session], has_draft_worker=True)
    [(_, decision)] = plan.decoding
    assert decision.max_draft_len == draft_len
    assert decision.is_off == (draft_len == 0)


def test_a_session_that_asked_for_no_drafts_gets_none() -> None:
    session = make_session("s", num_generated=1, wished=PLAIN_DECISION)
    plan = plan_of([session], has_draft_worker=True)
    assert plan.decoding == ((session, PLAIN_DECISION),)


# --- load -----------------------------------------------------------------------------------------

SHED = replace(PLAIN_DECISION, reason="shed")


class StubGovernor(LoadGovernor):
    """Sheds all but the first load, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(StepCosts(num_layers=4))
        self.asked: list[tuple[list[SessionLoad], int]] = []

    def decide(self, loads: Sequence[SessionLoad], *, num_prompts: int = 0) -> list[Decision]:
        """Return the first wish, and plain decisions behind it."""
        self.asked.append((list(loads), num_prompts))
        return [load.wished if index == 0 else SHED for index, load in enumerate(loads)]


class StubBudget(RowBudget):
    """Grants five rows, and keeps what it was asked."""

    asked: ClassVar[list[tuple[StepCosts, list[Decision], int]]] = []

    def num_rows(self, costs: StepCosts, decisions: Sequence[Decision], chunk_len: int) -> int:
        """Return five."""
        self.asked.append((costs, list(decisions), chunk_len))
        return 5


def test_the_governor_decides_for_all_that_decode_by_their_wishes_and_pins() -> None:
    governor = StubGovernor()
    sessions = [
        decode("a"),
        make_session("prompt"),
        decode("b", is_pinned=True),
        decode("paused", num_unread=100),
        decode("c", wished=Decision(LAYERSKIP, 1, 7), max_new_tokens=4),  # type: ignore[arg-type]
    ]
    limits = replace(LIMITS, sheds=True)
    plan = make_plan(sessions, limits, governor, has_draft_worker=True)
    [(loads, num_prompts)] = governor.asked
    # What they have room for: one token is out, three are left, one of them the verdict's own.
    short = Decision(LAYERSKIP, 1, 2, reason="limit")
    assert loads == [
        SessionLoad(sessions[0].session_id, WISHED),
        SessionLoad(sessions[2].session_id, WISHED, is_pinned=True),
        SessionLoad(sessions[4].session_id, short),
    ]
    assert num_prompts == 1
    assert plan.drafting == [(sessions[0], WISHED)]
    assert plan.plain == [(sessions[2], SHED), (sessions[4], SHED)]


@pytest.mark.parametrize(
    ("policy", "has_trees", "max_nodes"),
    [("goodput", True, 7), ("goodput", False, 0), ("static", True, 0)],
)
def test_only_what_goodput_decides_may_branch_as_far_as_rows_go(
    policy: str, has_trees: bool, max_nodes: int
) -> None:
    governor, session = StubGovernor(), decode("a")
    session.request = replace(session.request, policy=policy)
    limits = replace(LIMITS, sheds=True, has_trees=has_trees)
    make_plan([session], limits, governor, has_draft_worker=True)
    [([load], _)] = governor.asked
    assert load.max_nodes == max_nodes


def test_the_governor_is_told_when_no_prompt_rides_along() -> None:
    governor = StubGovernor()
    make_plan([decode("a")], replace(LIMITS, sheds=True), governor, has_draft_worker=True)
    assert [num_prompts for _, num_prompts in governor.asked] == [0]


def test_without_a_draft_worker_there_is_nothing_to_shed() -> None:
    governor = StubGovernor()
    make_plan([decode("a")], replace(LIMITS, sheds=True), governor, has_draft_worker=False)
    [([load], _)] = governor.asked
    assert load.wished.is_off


def test_where_nothing_is_shed_wishes_are_kept_whatever_the_load() -> None:
    governor = StubGovernor()
    plan = make_plan([decode("a"), decode("b")], LIMITS, governor, has_draft_worker=True)
    assert governor.asked == []
    assert [decision for _, decision in plan.decoding] == [WISHED, WISHED]


def test_prompts_ride_along_within_the_budget_of_what_was_decided() -> None:
    governor, budget = StubGovernor(), StubBudget()
    StubBudget.asked.clear()
    limits = replace(LIMITS, sheds=True, row_budget=budget)
    sessions = [make_session("long", [5] * 9), decode("a"), make_session("next"), decode("b")]
    plan = make_plan(sessions, limits, governor, has_draft_worker=True)
    assert budget.asked == [(governor.costs, [WISHED, SHED], 10)]
    assert [(each.session, each.end) for each in plan.prefills] == [(sessions[0], 5)]
    sessions[0].num_run = 6
    plan = make_plan(sessions, limits, governor, has_draft_worker=True)
    assert [(each.session, each.end) for each in plan.prefills] == [
        (sessions[0], 9),
        (sessions[2], 2),
    ]


def test_the_budget_is_not_asked_where_no_prompt_waits() -> None:
    StubBudget.asked.clear()
    limits = replace(LIMITS, row_budget=StubBudget())
    assert not make_plan([decode("a")], limits, StubGovernor(), has_draft_worker=True).prefills
    assert StubBudget.asked == []


@pytest.mark.parametrize(
    ("rows_ns", "ends"),
    [
        # Not known yet: the blind rows.
        (None, [4]),
        # Rows cost nothing beside what a step takes anyway: the whole chunk.
        ({1: 1_000, 2: 1_000, 64: 1_000}, [10]),
        # Each costs as much as the step: the least.
        ({1: 1_000, 2: 2_000, 64: 64_000}, [2]),
    ],
)
def test_measured_costs_say_how_many_rows_ride_along(
    rows_ns: dict[int, int] | None, ends: list[int]
) -> None:
    governor = LoadGovernor(StepCosts(num_layers=4))
    for _ in range(50):
        for num_rows, ns in (rows_ns or {}).items():
            governor.costs.note_pass({0: num_rows}, ns)
    limits = replace(LIMITS, row_budget=RowBudget(2.0, min_rows=2, blind_rows=4))
    sessions = [make_session("long", [5] * 30), decode("a", wished=PLAIN_DECISION)]  # type: ignore[arg-type]
    plan = make_plan(sessions, limits, governor, has_draft_worker=True)
    assert [each.end for each in plan.prefills] == ends


def test_prompts_are_taken_up_by_age_normal_ones_first() -> None:
    sessions = [
        make_session("low", [5] * 3, priority=Priority.LOW, arrived_ns=1),
        make_session("young", [5] * 3, arrived_ns=3),
        make_session("old", [5] * 6, arrived_ns=2),
    ]
    plan = plan_of(sessions)
    assert [(each.session, each.end) for each in plan.prefills] == [
        (sessions[2], 6),
        (sessions[1], 3),
        (sessions[0], 1),
    ]


@pytest.mark.parametrize(
    ("wished", "policy", "arms", "reason"),
    [
        (Decision(SWIFT, 0, 4), STATIC, (), "stream_off"),
        (Decision(SWIFT, 0, 4), GOODPUT, (SKIPPING,), "stream_off"),
        # What it wished for is no choice of its cell: it must not come to that.
        (Decision(LAYERSKIP, 1, 4), GOODPUT, (SKIPPING,), "stream_off"),
        (Decision(LAYERSKIP, 1, 4), GOODPUT, (1, SKIPPING), "no_costs"),
        (Decision(LAYERSKIP, 1, 4), STATIC, (), "no_costs"),
    ],
)
def test_a_session_whose_stream_is_off_skips_nothing(
    wished: Decision, policy: str, arms: tuple[int, ...], reason: str
) -> None:
    options = SearchOptions(num_layers=4)
    session = decode("s")
    session.request = replace(session.request, wished=wished, policy=policy, arms=arms)
    session.stream = StreamBook(options, lambda seen, seed: None, 4).open("")
    session.stream.record.phase = Phase.OFF
    governor = LoadGovernor(StepCosts(num_layers=4))
    limits = replace(LIMITS, sheds=True)
    plan = make_plan([session], limits, governor, has_draft_worker=True)
    assert [(each.is_off, each.reason) for _, each in plan.decoding] == [(True, reason)]
