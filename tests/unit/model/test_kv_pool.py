"""The pool's views: where each lies, that none overlaps another, what copies move."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from shared.errors import StaleHandle
from shared.model.kv_pool import ALIGNMENT_BYTES, KVPool, PoolLayout
from shared.model.page_table import PageTable
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent

LAYOUT = PoolLayout(
    num_pages=6,
    page_size=4,
    num_kv_layers=3,
    num_kv_heads=2,
    head_size=8,
    hidden_size=16,
    num_exit_slots=5,
    max_rows=3,
    dtype_name="float32",
)


def make_pool(layout: PoolLayout = LAYOUT) -> KVPool:
    return KVPool(LocalSegment(layout.size_bytes, torch.device("cpu")), layout)


@pytest.mark.parametrize("dtype_name", ["float32", "bfloat16"])
def test_views_lie_behind_each_other_and_never_overlap(dtype_name: str) -> None:
    pool = make_pool(replace(LAYOUT, dtype_name=dtype_name))
    views = [pool.check_word, pool.token_ids_S, pool.exit_states, *pool.layers]
    base = pool.segment.bytes_S.data_ptr()
    spans = []
    for view in views:
        assert view.is_contiguous()
        start = view.data_ptr() - base
        spans.append((start, start + view.numel() * view.element_size()))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] <= pool.layout.size_bytes
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in pool.layout.offsets_bytes)


def test_what_is_written_through_one_view_is_seen_through_no_other() -> None:
    pool = make_pool()
    views = [pool.check_word, pool.token_ids_S, pool.exit_states, *pool.layers]
    for number, view in enumerate(views, 1):
        view.fill_(number)
    for number, view in enumerate(views, 1):
        assert (view == number).all()


def test_two_maps_of_one_segment_are_the_same_memory() -> None:
    pool = make_pool()
    other = KVPool(pool.segment, LAYOUT)
    pool.layers[2][1, 0, 7].fill_(3.0)
    pool.exit_states[4, 2].fill_(2.0)
    assert (other.layers[2][1, 0, 7] == 3.0).all()
    assert (other.exit_states[4, 2] == 2.0).all()


def test_token_ids_are_read_back_through_scattered_pages() -> None:
    pool = make_pool()
    table = PageTable([Extent(5, 1), Extent(1, 2)], 4)
    pool.write_tokens(table, 0, list(range(10, 20)))
    pool.write_tokens(table, 3, [99, 98])
    assert pool.read_tokens(table, 7) == [10, 11, 12, 99, 98, 15, 16]
    assert pool.token_ids_S[20:23].tolist() == [10, 11, 12]


def test_copied_positions_bring_keys_values_and_token_ids_and_leave_the_rest() -> None:
    pool = make_pool()
    for layer in pool.layers:
        layer.copy_(torch.randn(layer.shape, generator=torch.Generator().manual_seed(1)))
    pool.token_ids_S.copy_(torch.arange(LAYOUT.num_slots))
    before = [layer.clone() for layer in pool.layers]
    pool.copy_positions([4, 5, 9], [20, 21, 22])
    for layer, old in zip(pool.layers, before, strict=True):
        assert torch.equal(layer[:, :, 20:23], old[:, :, [4, 5, 9]])
        assert torch.equal(layer[:, :, :20], old[:, :, :20])
        assert torch.equal(layer[:, :, 23:], old[:, :, 23:])
    assert pool.token_ids_S[20:24].tolist() == [4, 5, 9, 23]


@pytest.mark.parametrize("extent", [Extent(0, 7), Extent(6, 1), Extent(5, 2), Extent(2, 0)])
def test_an_extent_outside_the_pool_is_refused(extent: Extent) -> None:
    with pytest.raises(StaleHandle, match="lies outside the 6 pages"):
        make_pool().page_table((Extent(0, 1), extent))
