"""The cost model: closed forms by hand, and published tables that the formula is held against."""

import math

import pytest

from shared.speculation.cost_model import (
    OFF_SETTING,
    CostTable,
    Setting,
    best_setting,
    emitted_len,
    expected_tokens,
    in_layer_units,
    mean_round_ns,
    needed_acceptance,
    predicted_speedup,
    round_ns,
    speedup_from_emitted,
    speedup_from_histogram,
)

COSTS = CostTable(
    draft_step_ns={2: 30.0, 4: 50.0},
    closing_step_ns={2: 20.0, 4: 40.0},
    verify_ns={(2, 1): 100.0, (2, 2): 110.0, (2, 4): 120.0, (4, 1): 80.0},
    plain_step_ns=120.0,
    hand_over_ns=5.0,
)


@pytest.mark.parametrize(
    ("acceptance", "draft_len", "tokens"),
    [(0.0, 4, 1.0), (1.0, 4, 5.0), (0.5, 0, 1.0), (0.5, 2, 1.75), (0.8, 4, 3.3616)],
)
def test_expected_tokens_follow_the_geometric_sum(
    acceptance: float, draft_len: int, tokens: float
) -> None:
    assert expected_tokens(acceptance, draft_len) == pytest.approx(tokens)


@pytest.mark.parametrize("acceptance", [0.1, 0.5, 0.9])
def test_expected_tokens_equal_the_closed_form(acceptance: float) -> None:
    for draft_len in range(9):
        closed = (1 - acceptance ** (draft_len + 1)) / (1 - acceptance)
        assert expected_tokens(acceptance, draft_len) == pytest.approx(closed)


@pytest.mark.parametrize(
    ("acceptance", "draft_len"), [(-0.1, 1), (1.1, 1), (math.nan, 1), (0.5, -1)]
)
def test_expected_tokens_refuse_what_cannot_be(acceptance: float, draft_len: int) -> None:
    with pytest.raises(ValueError):
        expected_tokens(acceptance, draft_len)


def test_a_round_is_drafts_closing_step_verification_and_hand_over() -> None:
    assert round_ns(COSTS, 2, 1) == 30 + 20 + 110 + 5
    assert round_ns(COSTS, 2, 3) == 3 * 30 + 20 + 120 + 5


def test_a_round_without_drafts_is_a_plain_step() -> None:
    assert round_ns(COSTS, 2, 0) == 120


def test_verification_is_linear_between_measured_rows_and_goes_on_beyond_them() -> None:
    assert COSTS.verify_pass_ns(2, 3) == 115
    assert COSTS.verify_pass_ns(2, 2.5) == 112.5
    assert COSTS.verify_pass_ns(2, 6) == 130
    assert COSTS.verify_pass_ns(4, 7) == 80


def test_verification_never_falls_beyond_the_last_row_measured() -> None:
    noisy = CostTable({1: 1.0}, {1: 1.0}, {(1, 2): 10.0, (1, 4): 9.0}, 10.0)
    assert noisy.verify_pass_ns(1, 3) == 9.5
    assert noisy.verify_pass_ns(1, 8) == 9.0
    assert noisy.verify_pass_ns(1, 1) == 10.0


def test_a_resume_layer_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(KeyError):
        COSTS.verify_pass_ns(3, 1)


def test_the_head_is_what_a_draft_step_has_over_a_closing_step() -> None:
    assert COSTS.head_ns(2) == 10
    assert COSTS.exits == (2, 4)


def test_predicted_speedup_by_hand() -> None:
    # tau(0.5, 2) = 1.75; round = 60 + 20 + 115 + 5 = 200.
    assert predicted_speedup(COSTS, 2, 2, 0.5) == pytest.approx(1.75 * 120 / 200)


def test_a_measured_emitted_length_predicts_like_the_acceptance_that_gives_it() -> None:
    tau = expected_tokens(0.5, 2)
    assert speedup_from_emitted(COSTS, 2, tau, 2) == predicted_speedup(COSTS, 2, 2, 0.5)


def test_rounds_of_various_length_are_averaged_plain_ones_included() -> None:
    rounds = {0: 1, 1: 2, 3: 1}
    mean_ns = (120 + 2 * 165 + 235) / 4
    assert mean_round_ns(COSTS, 2, rounds) == mean_ns
    assert speedup_from_histogram(COSTS, 2, 2.0, rounds) == pytest.approx(2 * 120 / mean_ns)


def test_a_histogram_of_one_length_equals_that_length() -> None:
    assert speedup_from_histogram(COSTS, 2, 2.5, {3: 7}) == speedup_from_emitted(COSTS, 2, 2.5, 3)


def test_no_rounds_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        mean_round_ns(COSTS, 2, {})


# Elhoushi et al. 2024, Llama2-7B (L 32, h .65) and 13B (L 40, h .52): exit, draft length, share of
# drafts accepted, and the speed-up that weight traffic predicts. Measured there: 1.86, 1.54, 1.83;
# 1.81, 1.34, 1.66.
@pytest.mark.parametrize(
    ("num_layers", "head", "exit_layer", "draft_len", "accepted", "speedup"),
    [
        (32, 0.65, 8, 12, 0.689, 2.22),
        (32, 0.65, 8, 12, 0.546, 1.81),
        (32, 0.65, 8, 6, 0.671, 1.94),
        (40, 0.52, 15, 12, 0.745, 1.78),
        (40, 0.52, 15, 4, 0.677, 1.46),
        (40, 0.52, 7, 4, 0.570, 1.88),
    ],
)
def test_weight_traffic_predicts_what_the_paper_would_allow(
    num_layers: int, head: float, exit_layer: int, draft_len: int, accepted: float, speedup: float
) -> None:
    costs = in_layer_units(num_layers, head, [exit_layer])
    tau = emitted_len(accepted, draft_len)
    assert speedup_from_emitted(costs, exit_layer, tau, draft_len) == pytest.approx(
        speedup, abs=6e-3
    )


def test_layer_units_give_the_closed_form() -> None:
    costs = in_layer_units(24, 1.5, range(1, 24))
    for exit_layer in (1, 6, 23):
        for draft_len in (1, 4, 9):
            tau = expected_tokens(0.7, draft_len)
            closed = tau * 25.5 / ((draft_len + 1) * (exit_layer + 1.5) + 24 - exit_layer)
            assert predicted_speedup(costs, exit_layer, draft_len, 0.7) == pytest.approx(closed)


def test_the_needed_acceptance_brings_the_speed_up_wished_for() -> None:
    costs = in_layer_units(16, 2.0, [4])
    # With one draft 1 + a is worth a round of (E + h) + E + (L - E + h).
    assert needed_acceptance(costs, 4, 1, 1.1) == pytest.approx(1.1 * 24 / 18 - 1, abs=1e-5)
    needed = needed_acceptance(costs, 4, 6, 1.5)
    assert needed is not None
    best = max(predicted_speedup(costs, 4, draft_len, needed) for draft_len in range(1, 7))
    assert best == pytest.approx(1.5, abs=1e-4)


def test_no_acceptance_is_enough_where_rounds_are_too_dear() -> None:
    assert needed_acceptance(in_layer_units(16, 2.0, [4], hand_over=99.0), 4, 6, 1.0) is None


def test_a_draft_head_of_its_own_takes_its_own_units_of_every_draft() -> None:
    costs = in_layer_units(24, 3.0, [6], draft_head_to_layer=0.5)
    for draft_len in (1, 4, 9):
        closed = expected_tokens(0.7, draft_len) * 27.0 / (draft_len * (6 + 0.5) + 24 + 3.0)
        assert predicted_speedup(costs, 6, draft_len, 0.7) == pytest.approx(closed)


def test_one_draft_pays_exactly_above_the_cost_ratio() -> None:
    costs = in_layer_units(16, 2.0, [4])
    ratio = (4 + 2.0) / (16 + 2.0)
    assert predicted_speedup(costs, 4, 1, ratio) == pytest.approx(1.0)
    assert predicted_speedup(costs, 4, 1, ratio + 0.01) > 1.0
    assert predicted_speedup(costs, 4, 1, ratio - 0.01) < 1.0


def test_the_best_setting_is_the_maximum_over_the_grid() -> None:
    costs = in_layer_units(16, 2.0, [2, 4, 8])
    acceptance = {2: 0.6, 4: 0.8, 8: 0.9}
    best = best_setting(costs, acceptance, 8)
    grid = {
        (exit_layer, draft_len): predicted_speedup(costs, exit_layer, draft_len, rate)
        for exit_layer, rate in acceptance.items()
        for draft_len in range(1, 9)
    }
    assert (best.exit_layer, best.draft_len) == max(grid, key=grid.__getitem__)
    assert best.predicted_speedup == max(grid.values()) > 1


def test_off_is_best_where_nothing_pays() -> None:
    costs = in_layer_units(16, 2.0, [8])
    assert best_setting(costs, {8: 0.1}, 8) == OFF_SETTING
    assert best_setting(costs, {}, 8) == OFF_SETTING
    assert best_setting(costs, {3: 1.0}, 8) == OFF_SETTING


def test_on_a_tie_off_and_then_the_shorter_draft_win() -> None:
    free = CostTable({1: 10.0}, {1: 0.0}, {(1, 1): 10.0}, 10.0)
    # Acceptance 1 and drafts as dear as plain steps: k + 1 tokens in k + 1 steps.
    assert best_setting(free, {1: 1.0}, 4) == Setting(0, 0, 1.0)


def test_a_longer_hand_over_never_lengthens_the_prediction() -> None:
    rates = [predicted_speedup(in_layer_units(16, 2.0, [4], h), 4, 4, 0.8) for h in (0, 1, 5)]
    assert rates == sorted(rates, reverse=True)
