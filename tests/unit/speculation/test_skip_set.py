"""Skip sets: their sizes, their forms, and what is never skipped."""

import random

import pytest

from shared.errors import InvalidRequest
from shared.speculation.skip_set import (
    SkipSet,
    num_open,
    num_to_skip,
    random_set,
    start_set,
)


@pytest.mark.parametrize(
    ("num_layers", "ratio", "num_skipped", "num_sub_layers"),
    [
        (40, 0.45, 34, 76),
        (48, 0.5, 46, 92),
        (80, 0.5, 78, 156),
        (8, 0.45, 5, 12),
        (12, 0.45, 9, 20),
    ],
)
def test_as_many_sub_layers_are_skipped_as_published(
    num_layers: int, ratio: float, num_skipped: int, num_sub_layers: int
) -> None:
    assert num_open(num_layers) == num_sub_layers
    assert num_to_skip(num_layers, ratio) == num_skipped


def test_bits_name_attentions_first_then_mlps() -> None:
    assert SkipSet.from_bits(0b1, 8).to_wire() == (2,)
    assert SkipSet.from_bits(0b100000, 8).to_wire() == (12,)
    assert SkipSet.from_bits(0b1000000, 8).to_wire() == (3,)
    assert SkipSet.from_bits(1 << 11, 8).to_wire() == (13,)
    assert SkipSet.from_wire([2, 3, 13]).to_bits(8) == 0b100001000001


def test_bits_and_wire_ids_go_both_ways() -> None:
    draw = random.Random(1)
    for num_layers in (3, 4, 8, 13):
        for bits in (0, (1 << num_open(num_layers)) - 1, draw.getrandbits(num_open(num_layers))):
            found = SkipSet.from_bits(bits, num_layers)
            found.check(num_layers)
            assert found.to_bits(num_layers) == bits
            assert SkipSet.from_wire(found.to_wire()) == found


def test_a_mask_with_foreign_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 4 layers"):
        SkipSet.from_bits(1 << 4, 4)


@pytest.mark.parametrize("ids", [(0,), (1,), (14,), (15,), (2, 40)])
def test_the_first_and_the_last_layer_are_never_skipped(ids: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="can be skipped"):
        SkipSet.from_wire(ids).check(8)


@pytest.mark.parametrize("ids", [(3, 2), (2, 2)])
def test_ids_that_do_not_ascend_are_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match="must ascend"):
        SkipSet.from_wire(ids)


def test_the_start_set_leaves_out_every_second_layer() -> None:
    assert start_set(8, 6).to_wire() == (2, 3, 6, 7, 10, 11)
    assert start_set(8, 5).to_wire() == (2, 3, 6, 7, 10)
    assert start_set(12, 9).to_wire() == (2, 3, 6, 7, 10, 11, 14, 15, 18)
    # More than every second layer: the others follow.
    assert start_set(5, 5).to_wire() == (2, 3, 4, 6, 7)
    assert len(start_set(3, 1)) == 1
    assert len(start_set(8, 0)) == 0


def test_random_sets_have_their_size_and_fit() -> None:
    draw = random.Random(2)
    for num_layers, num_skipped in ((3, 1), (8, 5), (12, 9)):
        found = {random_set(num_layers, num_skipped, draw) for _ in range(200)}
        for each in found:
            each.check(num_layers)
            assert len(each) == num_skipped
        seen = set().union(*(each.sub_layers for each in found))
        assert seen == set(range(2, 2 * (num_layers - 1)))


def test_a_swap_keeps_the_size_and_changes_one_pair() -> None:
    draw = random.Random(3)
    before = start_set(8, 5)
    for _ in range(50):
        after = before.swapped(8, draw)
        after.check(8)
        assert len(after) == 5
        assert before.distance(after) == 2
    everything = SkipSet(frozenset(range(2, 6)))
    assert everything.swapped(4, draw) == everything
