"""What a step teaches beside the costs of its parts."""

from dataclasses import replace

import pytest

from shared.control.step_costs import StepCosts
from shared.control.step_lessons import (
    MAX_OVERHEAD_SHARE,
    NUM_PLAIN_STEPS,
    SUSTAINED,
    StepLessons,
)
from shared.control.steps import RoundOutcome, StepOutcome, TreeOutcome
from shared.speculation.vocabulary import LAYERSKIP, Decision

MS = 1_000_000
DRAFTS = Decision(LAYERSKIP, 2, 4)


def lessons_of() -> tuple[StepLessons, StepCosts]:
    costs = StepCosts(12)
    return StepLessons(costs, lambda decision: decision.exit_layer), costs


def step(
    *, more_ms: float = 0.0, num_drafted: int = 4, tree: TreeOutcome | None = None, **more: int
) -> StepOutcome:
    """Return a step of one session: 4 ms of drafts, 6 ms of a pass, and what it takes beside."""
    rounds = [RoundOutcome("s", DRAFTS, num_drafted, 1, 2, tree=tree)]
    draft_ns = 4 * MS if num_drafted else 0
    step_ns = draft_ns + 6 * MS + int(more_ms * MS)
    return StepOutcome(rounds, 0, draft_ns, 6 * MS, step_ns, **more)


def test_overhead_is_known_from_the_first_steps_on() -> None:
    lessons, _ = lessons_of()
    for ms, mean_ms in ((1.0, 1.0), (2.0, 1.5), (1.5, 1.5)):
        lessons.note_overhead(step(more_ms=ms))
        assert lessons.overhead_ns == pytest.approx(mean_ms * MS)


def test_reads_are_no_overhead_and_a_stall_is_hardly_believed() -> None:
    lessons, _ = lessons_of()
    lessons.note_overhead(step(more_ms=1.0, read_ns=MS))
    assert lessons.overhead_ns == 0.0
    lessons, _ = lessons_of()
    lessons.note_overhead(step(more_ms=90.0))
    assert lessons.overhead_ns == pytest.approx(MAX_OVERHEAD_SHARE * 100.0 * MS)


@pytest.mark.parametrize(
    ("more_ms", "expected_ms"), [(0.0, 0.8), (0.3, 1.1), (9.0, 1.6), (-0.3, 0.5), (-5.0, 0.0)]
)
def test_reads_take_what_they_add_to_the_pass_within_bounds(
    more_ms: float, expected_ms: float
) -> None:
    lessons, costs = lessons_of()
    for _ in range(60):
        lessons.note(step())
    usual_ns = costs.pass_ns({2: 5})
    assert usual_ns is not None
    outcome = step(read_ns=int(0.8 * MS))
    outcome = replace(outcome, pass_ns=int(usual_ns + more_ms * MS))
    assert lessons.read_ns(outcome) == pytest.approx(expected_ms * MS, abs=2)


def test_a_round_is_its_drafts_its_pass_and_the_overhead() -> None:
    lessons, costs = lessons_of()
    assert lessons.round_ns(2, 4) is None
    for _ in range(40):
        lessons.note(step())
        lessons.note_overhead(step(more_ms=1.0))
    assert lessons.round_ns(2, 4) == pytest.approx(11.0 * MS, rel=0.05)
    assert lessons.round_ns(2, 0) == pytest.approx((costs.pass_ns({0: 1}) or 0.0) + MS)


def test_drafts_that_branched_teach_their_like_alone() -> None:
    lessons, costs = lessons_of()
    for _ in range(10):
        assert lessons.note(step()) is None
    before = costs.draft_ns(2, 1, 4)
    branched = lessons.note(step(num_drafted=5, tree=TreeOutcome(4, 4, 0)))
    assert branched is not None
    arm, ns, expected_ns = branched
    assert (arm, ns) == (2, 4 * MS)
    assert expected_ns > (before or 0.0)
    assert costs.draft_ns(2, 1, 4) == before


def test_drafts_that_read_exits_on_the_way_teach_what_reading_takes() -> None:
    lessons, costs = lessons_of()
    for _ in range(10):
        lessons.note(step())
    bare_ns = costs.draft_ns(2, 1, 4) or 0.0
    slower = StepOutcome(step().rounds, 0, 5 * MS, 6 * MS, read_ns=MS, has_draft_reads=True)
    assert lessons.read_ns(slower) == pytest.approx(MS + 5 * MS - bare_ns, abs=1.0)
    assert lessons.note(slower) is None
    assert costs.draft_ns(2, 1, 4) == pytest.approx(bare_ns, rel=0.05)


def test_prompt_rows_are_those_that_rode_along_last() -> None:
    lessons, _ = lessons_of()
    lessons.note(StepOutcome([], 64, 0, 9 * MS))
    lessons.note(step())
    assert lessons.num_prompt_rows == 64


def test_plain_steps_are_told_once_some_were_measured() -> None:
    lessons, costs = lessons_of()
    for _ in range(NUM_PLAIN_STEPS - 1):
        lessons.note(step(num_drafted=0))
        assert lessons.plain_ns(1) == 0.0
    lessons.note(step(num_drafted=0))
    lessons.note_overhead(step(more_ms=1.0))
    expected_ns = SUSTAINED * ((costs.pass_ns({0: 1}) or 0.0) + MS)
    assert lessons.plain_ns(1) == pytest.approx(expected_ns)
