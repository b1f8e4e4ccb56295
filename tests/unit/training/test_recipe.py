"""The formulas of LayerSkip against numbers worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.recipe import (
    CURRICULA,
    Draws,
    Recipe,
    depth_scale,
    drop_probability,
    enabled_exits,
    exit_scale,
    exit_weights,
    last_layer_shares,
    stage_of,
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


@given(
    curriculum=st.sampled_from(CURRICULA),
    e_scale=st.floats(0, 1),
    num_layers=st.integers(2, 40),
    rotation=st.integers(1, 45),
    step=st.integers(0, 99),
)
def test_weights_sum_to_one_and_the_last_layer_always_counts(
    curriculum: str, e_scale: float, num_layers: int, rotation: int, step: int
) -> None:
    recipe = Recipe(num_layers, e_scale=e_scale, curriculum=curriculum, rotation=rotation)
    weights = exit_weights(recipe, step, 100)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights[num_layers - 1] > 0
    assert 0 not in weights
    assert list(weights) == sorted(weights)


@pytest.mark.parametrize("rotation", [1, 4, 11])
def test_every_early_exit_is_on_once_in_a_rotation(rotation: int) -> None:
    recipe = Recipe(12, rotation=rotation)
    steps = range(30, 30 + rotation)
    seen = [layer for step in steps for layer in enabled_exits(recipe, step, 100)]
    assert all(seen.count(layer) == 1 for layer in range(11))
    assert seen.count(11) == rotation


def test_an_exit_keeps_its_scale_whichever_others_are_on() -> None:
    recipe = Recipe(8, e_scale=0.2, rotation=4)
    for step in range(4):
        weights = exit_weights(recipe, step, 100)
        ratios = [weights[layer] / exit_scale(layer, 8, 0.2) for layer in weights]
        assert ratios == pytest.approx([ratios[0]] * len(ratios))


def test_gradual_starts_with_the_last_layer_and_has_all_by_half() -> None:
    recipe = Recipe(8, curriculum="gradual")
    assert enabled_exits(recipe, 0, 100) == (7,)
    assert enabled_exits(recipe, 7, 100) == (6, 7)  # floor(2 * 8 * 7 / 100) = 1
    assert enabled_exits(recipe, 25, 100) == (3, 4, 5, 6, 7)
    assert enabled_exits(recipe, 50, 100) == tuple(range(8))
    sizes = [len(enabled_exits(recipe, step, 100)) for step in range(100)]
    assert sizes == sorted(sizes)


def test_the_curricula_all_and_last() -> None:
    assert enabled_exits(Recipe(4, curriculum="all"), 9, 10) == (0, 1, 2, 3)
    assert exit_weights(Recipe(4, curriculum="last"), 9, 10) == {3: 1.0}


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
def test_share_of_the_loss_on_the_last_layer(
    num_layers: int, e_scale: float, rotation: int, expected: tuple[float | None, ...]
) -> None:
    recipe = Recipe(num_layers, e_scale=e_scale, rotation=rotation)
    for share, value in zip(last_layer_shares(recipe, 1000), expected, strict=True):
        assert value is None or share == pytest.approx(value, abs=0.006)


def test_share_of_a_gradual_curriculum_is_taken_over_the_run() -> None:
    mean, least, most = last_layer_shares(Recipe(8, curriculum="gradual", e_scale=1.0), 100)
    assert (least, most) == pytest.approx((28 / 84, 1.0))
    assert least < mean < most


def test_time_scale_rises_from_zero_to_one() -> None:
    assert time_scale(0, 100) == 0
    assert time_scale(99, 100) == 1
    assert time_scale(33, 100) == pytest.approx(2 ** (1 / 3) - 1)
    assert time_scale(150, 100) == 1
    assert time_scale(0, 100, "constant") == 1


def test_drop_probability_is_the_product_of_its_parts() -> None:
    recipe = Recipe(8, p_max=0.2)
    assert drop_probability(recipe, 4, 33, 100) == pytest.approx(0.2 * 0.4860 * 0.2599, abs=1e-5)
    assert all(drop_probability(recipe, 0, step, 100) == 0 for step in range(100))
    assert drop_probability(recipe, 7, 99, 100) == pytest.approx(0.2)


def test_a_growing_run_is_a_shallow_one_then_a_deep_one() -> None:
    recipe = Recipe(8, start_layers=3, grow_at=0.25, e_scale=1.0, curriculum="all")
    assert [stage_of(recipe, step, 10).num_layers for step in range(4)] == [3, 3, 8, 8]
    shallow = stage_of(recipe, 0, 10)
    assert exit_weights(shallow, 0, 10) == pytest.approx({1: 0.25, 2: 0.75})
    assert drop_probability(shallow, 2, 9, 10) == pytest.approx(0.1)


def test_a_run_that_does_not_grow_has_one_stage() -> None:
    recipe = Recipe(8)
    assert stage_of(recipe, 0, 10) is recipe
    assert stage_of(Recipe(8, start_layers=8), 0, 10).num_layers == 8


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=5))
def test_draws_lie_in_the_unit_interval_and_depend_on_every_part(key: list[int]) -> None:
    value = uniform(*key)
    assert 0 <= value < 1
    assert value == uniform(*key)
    for place in range(len(key)):
        other = [part + (place == at) for at, part in enumerate(key)]
        assert uniform(*other) != value


@given(rows=st.integers(1, 64), layer=st.integers(0, 40), probability=st.floats(0, 1))
def test_rows_are_dropped_independently_of_how_many_there_are(
    rows: int, layer: int, probability: float
) -> None:
    draws = Draws(1, 2, 3)
    kept = list(draws.kept_rows(layer, 64, probability))
    assert list(draws.kept_rows(layer, rows, probability)) == [row for row in kept if row < rows]


def test_certain_and_impossible_drops() -> None:
    assert list(Draws(1, 2, 3).kept_rows(4, 9, 1.0)) == []
    assert list(Draws(1, 2, 3).kept_rows(4, 9, 0.0)) == list(range(9))


def test_a_recipe_names_all_its_faults_at_once() -> None:
    with pytest.raises(ValueError, match=r"p_max.*e_scale.*curriculum.*start_layers"):
        Recipe(8, p_max=2, e_scale=-1, curriculum="none", start_layers=9)
