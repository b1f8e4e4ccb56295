"""The formulas of LayerSkip against numbers worked out by hand."""

import pytest

from training.recipe import (
    Draws,
    Recipe,
    depth_scale,
    drop_probability,
    enabled_exits,
    exit_scale,
    exit_weights,
    last_layer_shares,
    learning_rate,
    time_scale,
    uniform,
)


def test_depth_scale_of_eight_layers() -> None:
    expected = [0, 0.1041, 0.2190, 0.3459, 0.4860, 0.6407, 0.8114, 1]
    assert [depth_scale(layer, 8) for layer in range(8)] == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("e_scale", "expected"),
    [(0.2, [0, 0.2, 0.6, 1.2, 2, 3, 4.2, 11.2]), (1.0, [0, 1, 3, 6, 10, 15, 21, 28])],
)
def test_exit_scale_of_eight_layers(e_scale: float, expected: list[float]) -> None:
    assert [exit_scale(layer, 8, e_scale) for layer in range(8)] == pytest.approx(expected)


def test_rotational_weights_of_single_steps() -> None:
    recipe = Recipe(8, e_scale=0.2, rotation=4)
    assert enabled_exits(recipe, 2, 100) == (2, 6, 7)
    assert exit_weights(recipe, 2, 100) == pytest.approx({2: 0.0375, 6: 0.2625, 7: 0.7})
    assert enabled_exits(recipe, 3, 100) == (3, 7)
    assert exit_weights(recipe, 3, 100) == pytest.approx({3: 0.0968, 7: 0.9032}, abs=5e-5)


@pytest.mark.parametrize("curriculum", ["rotational", "gradual", "all", "last"])
@pytest.mark.parametrize("e_scale", [0.0, 0.2, 1.0])
def test_weights_sum_to_one_and_the_last_layer_is_always_on(
    curriculum: str, e_scale: float
) -> None:
    recipe = Recipe(12, e_scale=e_scale, curriculum=curriculum, rotation=5)
    for step in range(60):
        weights = exit_weights(recipe, step, 60)
        assert sum(weights.values()) == pytest.approx(1)
        assert weights[11] > 0
        assert 0 not in weights


def test_every_exit_is_on_once_in_a_rotation() -> None:
    recipe = Recipe(12, rotation=4)
    seen = [layer for step in range(8, 12) for layer in enabled_exits(recipe, step, 100)]
    assert sorted(set(seen)) == list(range(12))
    assert all(seen.count(layer) == 1 for layer in range(11))


def test_gradual_starts_with_the_last_layer_and_has_all_by_half() -> None:
    recipe = Recipe(8, curriculum="gradual")
    assert enabled_exits(recipe, 0, 100) == (7,)
    assert enabled_exits(recipe, 50, 100) == tuple(range(8))
    sizes = [len(enabled_exits(recipe, step, 100)) for step in range(100)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("num_layers", "e_scale", "rotation", "expected"),
    [
        (32, 0.2, 8, (0.51, 0.42, 0.59)),
        (32, 0.1, 8, (0.56, None, None)),
        (40, 0.1, 39, (0.84, None, None)),
        (32, 1.0, 16, (0.63, None, None)),
        (8, 0.2, 4, (0.81, 0.70, 0.90)),
        (8, 1.0, 4, (0.68, 0.54, 0.82)),
    ],
)
def test_share_of_the_loss_on_the_last_layer(num_layers, e_scale, rotation, expected) -> None:
    recipe = Recipe(num_layers, e_scale=e_scale, rotation=rotation)
    for share, value in zip(last_layer_shares(recipe, 1000), expected, strict=True):
        assert value is None or share == pytest.approx(value, abs=0.006)


def test_time_scale_rises_from_zero_to_one() -> None:
    assert time_scale(0, 100) == 0
    assert time_scale(99, 100) == 1
    assert time_scale(0, 100, "constant") == 1
    assert 0.4 < time_scale(50, 100) < 0.5


def test_first_layer_is_never_dropped_and_the_last_reaches_p_max() -> None:
    recipe = Recipe(8, p_max=0.1)
    assert all(drop_probability(recipe, 0, step, 100) == 0 for step in range(100))
    assert drop_probability(recipe, 7, 99, 100) == pytest.approx(0.1)


def test_learning_rate_warms_up_stays_and_decays() -> None:
    rates = [learning_rate(step, 100, 1.0, 10, 0.2) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert all(rate == 1 for rate in rates[9:81])
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


@pytest.mark.parametrize("num_steps", [80, 100])
def test_moving_the_end_changes_no_rate_before_the_decay(num_steps: int) -> None:
    assert learning_rate(60, num_steps, 1.0, 10, 0.2) == 1


def test_drop_counts_fit_their_probability() -> None:
    num_draws, p = 10_000, 0.2
    draws = [Draws(7, step, 0) for step in range(num_draws // 10)]
    dropped = sum(10 - len(draw.kept_rows(3, 10, p)) for draw in draws)
    sigma = (num_draws * p * (1 - p)) ** 0.5
    assert abs(dropped - num_draws * p) < 4 * sigma


@pytest.mark.parametrize("other", [(0, 0, 1, 5), (0, 1, 0, 5), (1, 0, 0, 5), (0, 0, 0, 6)])
def test_draws_of_other_layers_rows_and_micro_batches_are_uncorrelated(other) -> None:
    num_steps = 4000
    seed, micro_batch, layer, row = other
    here = [uniform(0, step, 0, 0, 5) - 0.5 for step in range(num_steps)]
    there = [uniform(seed, step, micro_batch, layer, row) - 0.5 for step in range(num_steps)]
    products = sum(a * b for a, b in zip(here, there, strict=True)) / num_steps
    assert abs(12 * products) < 4 / num_steps**0.5


def test_draws_are_pure_functions_of_their_key() -> None:
    assert Draws(1, 2, 3).kept_rows(4, 64, 0.5) == Draws(1, 2, 3).kept_rows(4, 64, 0.5)
    assert Draws(1, 2, 3).kept_rows(4, 64, 0.5) != Draws(1, 3, 3).kept_rows(4, 64, 0.5)
    fewer = Draws(1, 2, 3).kept_rows(4, 16, 0.5)
    assert fewer == Draws(1, 2, 3).kept_rows(4, 64, 0.5)[: len(fewer)]


def test_recipe_names_all_faults_at_once() -> None:
    with pytest.raises(ValueError, match=r"p_max.*e_scale.*curriculum"):
        Recipe(8, p_max=2, e_scale=-1, curriculum="none")
