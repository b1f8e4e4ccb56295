"""Predicted draft phases and passes: shares of layers, hand-over, pace, outliers, budgets."""

from random import Random

import pytest

from shared.control.step_costs import HEAD_LAYERS, StepCosts
from shared.control.steps import draft_shape

MS = 1_000_000
LAYERS = 12


def linear_pass(rows: float) -> float:
    """Return the true time of rows through all layers."""
    return MS * (13.4 + 1.6 * rows)


def taught_passes(num_times: int = 60) -> StepCosts:
    costs = StepCosts(LAYERS)
    for _ in range(num_times):
        for rows in (1, 2, 4, 8, 16, 32):
            costs.note_pass({0: rows}, linear_pass(rows))
    return costs


def test_nothing_is_predicted_while_nothing_is_known() -> None:
    costs = StepCosts(LAYERS)
    assert costs.pass_ns({0: 1}) is None
    assert costs.draft_ns(2, 1, 4) is None
    assert costs.rows_within({0: 1}, 1e9, 512) == 0


def test_no_rows_and_no_drafts_take_no_time() -> None:
    costs = StepCosts(LAYERS)
    assert costs.pass_ns({}) == costs.pass_ns({0: 0, 3: 0}) == 0.0
    assert costs.draft_ns(2, 0, 0) == 0.0


def test_measured_passes_are_read_back_and_between() -> None:
    costs = taught_passes()
    for rows in (1, 3, 8, 12, 24, 64):
        assert costs.pass_ns({0: rows}) == pytest.approx(linear_pass(rows), rel=0.02)


def test_rows_that_join_later_skip_the_share_of_the_layers_below() -> None:
    costs = taught_passes()
    share = (LAYERS - 4 + HEAD_LAYERS) / (LAYERS + HEAD_LAYERS)
    assert costs.pass_ns({4: 8}) == pytest.approx(share * linear_pass(8), rel=0.02)
    mixed = (1 - share) * linear_pass(2) + share * linear_pass(8)
    assert costs.pass_ns({0: 2, 4: 6}) == pytest.approx(mixed, rel=0.02)


def test_three_joins_add_up_band_by_band() -> None:
    costs = taught_passes()
    shares = {e: (LAYERS - e + HEAD_LAYERS) / (LAYERS + HEAD_LAYERS) for e in (3, 6)}
    expected = (
        (1 - shares[3]) * linear_pass(1)
        + (shares[3] - shares[6]) * linear_pass(4)
        + shares[6] * linear_pass(8)
    )
    assert costs.pass_ns({6: 4, 0: 1, 3: 3}) == pytest.approx(expected, rel=0.02)


def test_a_head_that_weighs_more_than_thought_is_found_out() -> None:
    costs = taught_passes(20)
    heavy = 0.75
    for _ in range(1500):
        costs.note_pass({6: 8}, heavy * linear_pass(8))
        costs.note_pass({0: 8}, linear_pass(8))
    assert costs.pass_ns({6: 8}) == pytest.approx(heavy * linear_pass(8), rel=0.06)
    assert costs.pass_ns({0: 8}) == pytest.approx(linear_pass(8), rel=0.06)


def test_draft_phases_tell_steps_and_hand_over_apart() -> None:
    costs = StepCosts(LAYERS)
    random = Random(3)
    for _ in range(3000):
        num_steps = random.choice((1, 2, 4, 8))
        costs.note_draft(2, 1, num_steps, MS * (2.0 + 3.5 * (num_steps + 1)))
    for num_steps in (1, 3, 6):
        true_ns = MS * (2.0 + 3.5 * (num_steps + 1))
        assert costs.draft_ns(2, 1, num_steps) == pytest.approx(true_ns, rel=0.04)


def test_an_exit_that_was_never_drafted_from_is_scaled_from_the_nearest() -> None:
    costs = StepCosts(LAYERS)
    for _ in range(20):
        costs.note_draft(3, 2, 4, 20.0 * MS)
    found = costs.draft_ns(7, 2, 4)
    assert found == pytest.approx(20.0 * MS * (7 + HEAD_LAYERS) / (3 + HEAD_LAYERS))


def test_one_outlier_moves_a_prediction_by_five_percent_at_most() -> None:
    costs = StepCosts(LAYERS)
    for _ in range(20):
        costs.note_pass({0: 4}, 20.0 * MS)
        costs.note_draft(2, 1, 4, 20.0 * MS)
    costs.note_pass({0: 4}, 2000.0 * MS)
    assert costs.pass_ns({0: 4}) == pytest.approx(20.0 * MS, rel=0.05)
    costs.note_draft(2, 1, 4, 2000.0 * MS)
    assert costs.draft_ns(2, 1, 4) == pytest.approx(20.0 * MS, rel=0.05)


def test_a_slower_machine_is_slower_where_nothing_was_measured_since() -> None:
    costs = taught_passes()
    for _ in range(30):
        costs.note_draft(2, 1, 4, 20.0 * MS)
    before_ns = costs.draft_ns(2, 1, 4)
    for _ in range(12):
        costs.note_pass({0: 4}, 2.0 * linear_pass(4))
    assert costs.pass_ns({0: 16}) == pytest.approx(2.0 * linear_pass(16), rel=0.1)
    assert before_ns is not None
    assert costs.draft_ns(2, 1, 4) == pytest.approx(2.0 * before_ns, rel=0.1)


def phase_ms(num_steps: int, num_sessions: int = 1) -> float:
    return 2.0 + (num_steps + 1) * (1.0 + 0.2 * num_sessions)


def test_what_one_load_taught_beside_the_curves_says_nothing_of_another() -> None:
    costs, random = taught_passes(), Random(5)
    costs.enter_load(0)
    for _ in range(400):
        num_steps = random.choice((2, 4, 8))
        costs.note_draft(3, 1, num_steps, MS * phase_ms(num_steps))
        costs.note_pass({0: 1}, linear_pass(1))
    alone = (costs.draft_ns(3, 1, 4), costs.pass_ns({0: 1}))
    assert alone == pytest.approx((MS * phase_ms(4), linear_pass(1)), rel=0.05)
    costs.enter_load(4)
    # Where nothing was found yet what holds elsewhere does.
    assert (costs.draft_ns(3, 1, 4), costs.pass_ns({0: 1})) == alone
    for _ in range(400):
        # Short drafts take as long as long ones there, and passes half as long again.
        costs.note_draft(3, 16, random.choice((2, 4, 8)), MS * phase_ms(8, 16))
        costs.note_pass({0: 16}, 1.5 * linear_pass(16))
    busy = costs.draft_ns(3, 16, 4)
    assert costs.pass_ns({0: 16}) == pytest.approx(1.5 * linear_pass(16), rel=0.05)
    costs.enter_load(0)
    assert (costs.draft_ns(3, 1, 4), costs.pass_ns({0: 1})) == pytest.approx(alone, rel=0.05)
    costs.enter_load(4)
    assert costs.draft_ns(3, 16, 4) == busy


def test_what_took_no_time_or_had_no_rows_is_not_noted() -> None:
    costs = StepCosts(LAYERS)
    costs.note_pass({0: 4}, 0)
    costs.note_pass({0: 0}, 100)
    costs.note_draft(2, 0, 0, 100)
    costs.note_draft(2, 1, 1, -5)
    assert costs.pass_ns({0: 4}) is None
    assert costs.draft_ns(2, 1, 1) is None


@pytest.mark.parametrize(("budget_ms", "most", "expected"), [(30.0, 512, 9), (30.0, 5, 5)])
def test_rows_within_a_budget(budget_ms: float, most: int, expected: int) -> None:
    costs = taught_passes()
    # 13.4 + 1.6 * (1 + 9) = 29.4 ms; one row more takes 31.
    assert costs.rows_within({0: 1}, budget_ms * MS, most) == expected


def test_no_row_fits_where_the_pass_alone_is_beyond_the_budget() -> None:
    assert taught_passes().rows_within({0: 8}, 1.0 * MS, 512) == 0


def test_the_shape_of_a_draft_phase_is_its_mean_rows_and_its_longest_draft() -> None:
    assert draft_shape([]) == draft_shape([0, 0]) == (0.0, 0)
    assert draft_shape([4]) == (1.0, 4)
    # Rows of the steps: 2, 2, 1, 1, 1.
    assert draft_shape([4, 1, 0]) == (7 / 5, 4)
