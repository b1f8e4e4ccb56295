"""Plain steps that are learned of together: which are, and what becomes of them."""

from dataclasses import replace

import pytest

from shared.control.evidence.observation import Observation, Read
from shared.control.plain_batch import MAX_NS, MAX_STEPS, PlainBatch
from shared.control.steps import RoundOutcome, StepOutcome
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision

DRAFT = Decision(LAYERSKIP, 2, 4, reason="policy")


def plain_round(key: str, num_emitted: int = 1) -> RoundOutcome:
    return RoundOutcome(key, PLAIN_DECISION, 0, 0, num_emitted, Observation(num_emitted))


def plain_step(*keys: str, pass_ns: int = 100) -> StepOutcome:
    return StepOutcome([plain_round(key) for key in keys], 0, 0, pass_ns, pass_ns + 10)


def test_steps_are_joined_by_session_with_the_times_of_the_last() -> None:
    batch = PlainBatch()
    for pass_ns in (100, 300, 200):
        assert batch.add(plain_step("a", "b", pass_ns=pass_ns))
    joined = batch.take()
    assert joined is not None
    assert (joined.num_steps, joined.pass_ns, joined.step_ns) == (3, 200, 210)
    assert [each.key for each in joined.rounds] == ["a", "b"]
    assert [each.num_emitted for each in joined.rounds] == [3, 3]
    assert [each.observation for each in joined.rounds] == [Observation(3), Observation(3)]
    assert batch.take() is None


def test_one_step_stays_as_it_is() -> None:
    batch = PlainBatch()
    step = plain_step("a")
    batch.add(step)
    assert batch.take() is step


def test_a_round_that_nobody_observed_stays_unobserved() -> None:
    batch = PlainBatch()
    unseen = replace(plain_round("a"), observation=None)
    for _ in range(2):
        assert batch.add(replace(plain_step("a"), rounds=[unseen]))
    joined = batch.take()
    assert joined is not None
    assert joined.rounds[0].observation is None


@pytest.mark.parametrize(
    ("pass_ns", "num_steps"), [(1000, MAX_STEPS), (MAX_NS // 4, 4), (MAX_NS, 1), (9 * MAX_NS, 1)]
)
def test_it_is_full_behind_so_many_steps_or_so_long(pass_ns: int, num_steps: int) -> None:
    batch = PlainBatch()
    for _ in range(2):
        for _ in range(num_steps):
            assert not batch.is_full
            batch.add(plain_step("a", pass_ns=pass_ns))
        assert batch.is_full
        batch.take()


@pytest.mark.parametrize(
    "step",
    [
        plain_step("b"),
        plain_step("a", "b"),
        plain_step(),
        replace(plain_step("a"), num_prefill_rows=4),
        replace(plain_step("a"), draft_ns=50),
        replace(plain_step("a"), read_ns=50),
        replace(plain_step("a"), teaches=False),
        replace(plain_step("a"), rounds=[RoundOutcome("a", DRAFT, 4, 1, 2, Observation(2))]),
        replace(
            plain_step("a"),
            rounds=[replace(plain_round("a"), observation=Observation(1, {2: [Read(True, 0.9)]}))],
        ),
    ],
    ids=[
        "other",
        "more",
        "nobody",
        "prompts",
        "late drafts",
        "late reads",
        "trial",
        "draft",
        "read",
    ],
)
def test_steps_unlike_those_before_are_not_taken(step: StepOutcome) -> None:
    batch = PlainBatch()
    assert batch.add(plain_step("a"))
    assert not batch.add(step)
    assert batch.take() == plain_step("a")
