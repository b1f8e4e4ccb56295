"""Prompt rows beside decoding sessions: as many as the step may be stretched."""

import pytest

from shared.control.row_budget import RowBudget
from shared.control.step_costs import StepCosts
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision

MS = 1_000_000
DRAFTING = Decision(LAYERSKIP, 2, 4)


def known_costs(fixed_ms: float = 13.4, row_ms: float = 1.6) -> StepCosts:
    costs = StepCosts(12)
    for _ in range(30):
        for rows in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            costs.note_pass({0: rows}, MS * (fixed_ms + row_ms * rows))
        costs.note_draft(2, 1, 4, 18.0 * MS)
    return costs


def test_nobody_decoding_leaves_the_whole_chunk() -> None:
    assert RowBudget().num_rows(StepCosts(12), [], 512) == 512
    assert RowBudget().num_rows(known_costs(), [], 512) == 512


@pytest.mark.parametrize(("chunk_len", "expected"), [(512, 64), (40, 40)])
def test_unknown_costs_leave_a_small_chunk(chunk_len: int, expected: int) -> None:
    assert RowBudget().num_rows(StepCosts(12), [PLAIN_DECISION], chunk_len) == expected


def test_rows_stretch_a_plain_step_by_no_more_than_the_factor() -> None:
    costs = known_costs()
    plain = [PLAIN_DECISION] * 16
    rows = RowBudget(max_stretch=2.0).num_rows(costs, plain, 512)
    base_ns, found_ns, more_ns = (
        costs.pass_ns({0: 16}),
        costs.pass_ns({0: 16 + rows}),
        costs.pass_ns({0: 17 + rows}),
    )
    assert base_ns is not None
    assert found_ns is not None
    assert more_ns is not None
    assert found_ns <= 2 * base_ns < more_ns


def test_a_draft_phase_counts_as_part_of_the_step() -> None:
    costs = known_costs()
    rows = RowBudget(max_stretch=2.0).num_rows(costs, [DRAFTING], 512)
    draft_ns, pass_ns = costs.draft_ns(2, 1, 4), costs.pass_ns({2: 5})
    with_rows_ns = costs.pass_ns({0: rows, 2: 5})
    assert draft_ns is not None
    assert pass_ns is not None
    assert with_rows_ns is not None
    assert rows > 16
    assert draft_ns + with_rows_ns <= 2 * (draft_ns + pass_ns)


def test_prompts_always_go_on_but_never_beyond_the_chunk() -> None:
    steep = known_costs(fixed_ms=1.0, row_ms=20.0)
    assert RowBudget(max_stretch=1.0).num_rows(steep, [PLAIN_DECISION], 512) == 16
    assert RowBudget(max_stretch=1.0).num_rows(steep, [PLAIN_DECISION], 8) == 8


def test_free_rows_are_all_taken() -> None:
    assert RowBudget().num_rows(known_costs(row_ms=0.001), [PLAIN_DECISION], 512) == 512


@pytest.mark.parametrize(
    "settings", [{"max_stretch": 0.9}, {"min_rows": 0}, {"blind_rows": 0}], ids=str
)
def test_budgets_that_would_stop_prompts_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RowBudget(**settings)  # type: ignore[arg-type]
