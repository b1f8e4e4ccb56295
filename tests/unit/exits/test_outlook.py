"""The grid of settings over tapes: agreement, prices, the best."""

import pytest

from shared.speculation.cost_model import round_ns
from shortstack.bench.sweep import Setting
from shortstack.exits.outlook import add_grids, make_outlook, replay_grid
from tests.unit.exits.builders import BAD, COSTS, GOOD, make_outlooks, make_tape


def test_agreement_is_the_share_of_tokens() -> None:
    overall, by_kind = make_outlooks({"math": [GOOD], "code": [BAD, BAD]})
    assert by_kind["math"].agreement == pytest.approx({1: 2 / 3, 2: 4 / 5, 4: 1.0})
    assert by_kind["code"].agreement == pytest.approx({1: 0.0, 2: 1 / 5, 4: 1 / 5})
    assert overall.agreement[4] == pytest.approx((1.0 + 2 * 0.2) / 3)
    assert (overall.num_tokens, by_kind["code"].num_tokens) == (180, 120)


def test_a_speed_up_is_plain_time_over_the_time_of_the_rounds() -> None:
    overall, _ = make_outlooks({"math": [GOOD]})
    # Twelve rounds of four drafts at exit 2, all of them kept, each with a bonus token.
    cell = overall.cell_of(Setting(2, 4, 0.0))
    assert cell.replay.rounds == {(4, 4, 5): 12}
    assert cell.predicted_speedup == pytest.approx(5 * COSTS.plain_step_ns / round_ns(COSTS, 2, 4))
    assert cell.mean_draft_len == 4


def test_rounds_that_stop_early_are_priced_at_their_own_length() -> None:
    overall, _ = make_outlooks({"code": [BAD]})
    # At exit 1 nothing is sure and nothing is right: one draft and one token a round.
    cell = overall.cell_of(Setting(1, 4, 0.5))
    assert cell.predicted_speedup == pytest.approx(COSTS.plain_step_ns / round_ns(COSTS, 1, 1))


def test_the_best_is_the_fastest_and_of_equals_the_shortest() -> None:
    overall, _ = make_outlooks({"math": [GOOD]})
    fastest = max(cell.predicted_speedup for cell in overall.cells)
    assert overall.best.predicted_speedup == fastest
    # With every choice sure and right both thresholds are the same: the lower one is named.
    sure, _ = make_outlooks({"math": [make_tape("x" * 60, "x" * 60, "x" * 60)]})
    assert sure.best.setting.stop_threshold == 0.0


def test_every_place_of_the_map_has_its_best_threshold() -> None:
    overall, _ = make_outlooks({"code": [BAD]})
    best = overall.best_thresholds
    assert len(best) == 3 * 4
    for (exit_layer, draft_len), cell in best.items():
        rivals = [
            overall.cell_of(Setting(exit_layer, draft_len, threshold)).predicted_speedup
            for threshold in (0.0, 0.5)
        ]
        assert cell.predicted_speedup == max(rivals)


def test_survival_never_rises_with_the_position() -> None:
    overall, _ = make_outlooks({"math": [GOOD], "code": [BAD]})
    shares = overall.survival()
    assert len(shares) == overall.best.setting.draft_len
    assert shares == sorted(shares, reverse=True)


def test_all_texts_together_are_the_sum_of_the_kinds() -> None:
    settings = [Setting(2, 3, 0.0)]
    grids = [replay_grid([tape], settings) for tape in (GOOD, BAD)]
    total = add_grids(grids)[settings[0]]
    assert total.num_tokens == GOOD.num_tokens + BAD.num_tokens
    assert total.num_rounds == sum(grid[settings[0]].num_rounds for grid in grids)


def test_progress_is_told_for_every_setting() -> None:
    told = []
    replay_grid([GOOD], [Setting(1, 1, 0.0), Setting(1, 2, 0.0)], lambda: told.append(1))
    assert len(told) == 2


def test_nothing_can_be_said_without_a_token() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        make_outlook([make_tape("", "", "")], {}, COSTS)
