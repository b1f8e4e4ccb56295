"""Times on a line: what lies on one stays, what strays is brought back."""

from dataclasses import replace

import pytest

from shared.speculation.cost_fit import fit_line, scatter, smooth_costs
from shared.speculation.cost_model import CostTable

NUM_LAYERS = 8
LAYER_NS, HEAD_NS, FIXED_NS = 100.0, 50.0, 30.0


def true_costs() -> CostTable:
    """Return times of alike layers; three rows take a tenth more per layer than one."""
    exits = range(1, NUM_LAYERS)
    return CostTable(
        draft_step_ns={e: FIXED_NS + LAYER_NS * e + HEAD_NS for e in exits},
        closing_step_ns={e: FIXED_NS + LAYER_NS * e for e in exits},
        verify_ns={
            (e, n): FIXED_NS + LAYER_NS * factor * (NUM_LAYERS - e) + HEAD_NS
            for e in exits
            for n, factor in ((1, 1.0), (3, 1.1))
        },
        plain_step_ns=FIXED_NS + LAYER_NS * NUM_LAYERS + HEAD_NS,
        hand_over_ns=7.0,
    )


def assert_equal(found: CostTable, expected: CostTable) -> None:
    assert found.draft_step_ns == pytest.approx(expected.draft_step_ns)
    assert found.closing_step_ns == pytest.approx(expected.closing_step_ns)
    assert found.verify_ns == pytest.approx(expected.verify_ns)
    assert found.plain_step_ns == pytest.approx(expected.plain_step_ns)
    assert found.hand_over_ns == expected.hand_over_ns


def test_times_on_their_lines_stay() -> None:
    assert_equal(smooth_costs(true_costs()), true_costs())
    assert scatter(true_costs(), smooth_costs(true_costs())) == pytest.approx(0)


def test_times_that_stray_are_brought_back() -> None:
    costs = true_costs()
    strayed = replace(
        costs,
        closing_step_ns=dict(costs.closing_step_ns) | {3: 900.0},
        draft_step_ns=dict(costs.draft_step_ns) | {3: 950.0},
        verify_ns=dict(costs.verify_ns) | {(6, 3): 5000.0},
        plain_step_ns=2000.0,
    )
    assert_equal(smooth_costs(strayed), costs)


def test_scatter_is_the_median_share() -> None:
    costs = true_costs()
    louder = replace(
        costs,
        plain_step_ns=costs.plain_step_ns * 1.2,
        closing_step_ns={e: 1.2 * ns for e, ns in costs.closing_step_ns.items()},
        draft_step_ns={e: 0.8 * ns for e, ns in costs.draft_step_ns.items()},
        verify_ns={key: 1.2 * ns for key, ns in costs.verify_ns.items()},
    )
    assert scatter(louder, costs) == pytest.approx(0.2)


def test_two_exits_are_left_as_they_were_measured() -> None:
    few = CostTable({1: 9.0, 2: 4.0}, {1: 8.0, 2: 3.0}, {(1, 1): 5.0, (2, 1): 6.0}, 10.0)
    assert smooth_costs(few) is few


def test_a_line_never_falls_below_what_was_measured() -> None:
    line = fit_line([(1, 1.0), (2, 2.0), (3, 10.0), (4, 20.0), (5, 30.0)])
    assert line.at(1) == 1.0
    assert line.at(6) > 30.0


def test_a_line_needs_two_layers() -> None:
    with pytest.raises(ValueError, match="two layers"):
        fit_line([(1, 1.0), (1, 2.0)])
