"""The plan of plain steps is held, and made anew as soon as anything may be another."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from services.verify.held_plan import HeldPlan
from services.verify.scheduler import Plan, SchedulerLimits
from services.verify.session import Session
from shared.control.load_governor import LoadGovernor
from shared.control.policies.base import PolicyContext
from shared.control.policies.registry import make_policy
from shared.control.step_costs import StepCosts
from shared.speculation.vocabulary import PLAIN_DECISION
from tests.unit.verify.builders import WISHED, make_session

LIMITS = SchedulerLimits(max_context_len=64, max_rows=8, prefill_chunk_len=10, max_unread=100)


class Planner:
    """A holder of plans for sessions that decode, with a worker that drafts."""

    def __init__(self, sessions: Sequence[Session], limits: SchedulerLimits = LIMITS) -> None:
        self.sessions = list(sessions)
        self.governor = LoadGovernor(StepCosts(num_layers=4))
        self.held = HeldPlan(limits, self.governor)
        self.has_draft_worker = True

    def next(self) -> Plan:
        return self.held.next(
            self.sessions, has_draft_worker=self.has_draft_worker, reads_exits=True
        )


def plain(name: str = "plain") -> Session:
    return make_session(name, num_generated=1, wished=PLAIN_DECISION)


def test_a_plain_plan_is_held() -> None:
    planner = Planner([plain(), plain("other")])
    first = planner.next()
    assert [decision.is_off for _, decision in first.decoding] == [True, True]
    assert all(planner.next() is first for _ in range(100))


def pause(planner: Planner) -> None:
    planner.sessions[0].num_unread = lambda: LIMITS.max_unread


def kill(planner: Planner) -> None:
    planner.sessions[0].is_killed = lambda: True


def attach(planner: Planner) -> None:
    planner.has_draft_worker = not planner.has_draft_worker


def prompt_comes(planner: Planner) -> None:
    planner.sessions.append(make_session("prompt"))


def session_comes(planner: Planner) -> None:
    planner.sessions.append(plain("more"))


def session_goes(planner: Planner) -> None:
    del planner.sessions[0]


def another_takes_its_place(planner: Planner) -> None:
    planner.sessions[0] = plain()


CHANGES = (
    pause, kill, attach, prompt_comes, session_comes, session_goes, another_takes_its_place,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_makes_it_anew(change: Callable[[Planner], None]) -> None:
    planner = Planner([plain(), plain("other")])
    first = planner.next()
    change(planner)
    second = planner.next()
    assert second is not first
    assert {session for session, _ in second.decoding} <= set(planner.sessions)


def test_a_plan_with_drafts_is_not_held() -> None:
    pinned = make_session("drafts", num_generated=1, is_pinned=True)
    planner = Planner([pinned])
    first = planner.next()
    assert first.drafting
    assert planner.next() is not first


def test_a_plan_with_prompts_is_not_held() -> None:
    planner = Planner([plain(), make_session("prompt")])
    first = planner.next()
    assert first.prefills
    assert planner.next() is not first


def test_a_session_with_a_policy_of_its_own_is_asked_every_round() -> None:
    session = plain()
    context = PolicyContext((2,), 4, session.request.wished)
    session.policy = make_policy("heuristic", context)
    planner = Planner([session])
    assert planner.next() is not planner.next()


def test_a_killed_session_may_draft_as_soon_as_it_is_let_go() -> None:
    session = make_session("s", num_generated=1, is_pinned=True)
    session.is_killed = lambda: True
    planner = Planner([session])
    assert not planner.next().drafting
    session.is_killed = lambda: False
    assert planner.next().drafting


def test_where_nothing_is_shed_every_wish_is_granted_anew() -> None:
    planner = Planner([plain()], replace(LIMITS, sheds=False))
    assert planner.next() is not planner.next()


def test_exits_that_are_due_are_read() -> None:
    session = make_session("s", num_generated=1, wished=replace(WISHED, reason="policy"))
    planner = Planner([session])
    # Plain as long as no cost is known, and read from the first round on.
    assert all(planner.next().shadow for _ in range(5))
