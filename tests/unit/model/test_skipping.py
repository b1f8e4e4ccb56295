"""Sub-layers that are left out: identity, no KV, and the rest as ever."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.ids import TokenId
from shared.model.draft_runner import StackDraftRunner
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.page_table import PageTable
from shared.model.plain import pool_layout
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.segment import LocalSegment
from shared.speculation.methods.base import DraftRow, HeadWish
from shared.speculation.skip_set import NOTHING_SKIPPED, SkipSet
from shared.speculation.vocabulary import Extent, SamplingParams
from tests.model_builder import NUM_LAYERS, edit_config, write_model

TOKENS = [5, 9, 33, 2, 71, 18]
PAGE_SIZE = 4


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four layers."""
    return write_model(tmp_path_factory.mktemp("models") / "whole")


@pytest.fixture(scope="module")
def stack(model_dir: Path) -> LayerStack:
    """All of it."""
    return load_stack(model_dir)


def without_layer(model_dir: Path, target: Path, gone: int) -> Path:
    """Write the model again without one of its layers."""
    shutil.copytree(model_dir, target)
    tensors = {}
    for name, tensor in load_file(model_dir / "model.safetensors").items():
        parts = name.split(".")
        if parts[1] == "layers":
            index = int(parts[2])
            if index == gone:
                continue
            parts[2] = str(index - (index > gone))
        tensors[".".join(parts)] = tensor
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    edit_config(target, num_hidden_layers=NUM_LAYERS - 1, layer_types=None)
    return target


def open_pool(stack: LayerStack, num_positions: int = 32) -> tuple[KVPool, PageTable]:
    layout = pool_layout(stack, num_positions, PAGE_SIZE)
    pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
    return pool, PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)


def rows_of(stack: LayerStack, table: PageTable) -> RowBatch:
    return pack_rows([SessionRows(table, TOKENS, 0)], stack.rope_table_P1C)


def run_whole(stack: LayerStack) -> tuple[torch.Tensor, KVPool]:
    pool, table = open_pool(stack)
    rows = rows_of(stack, table)
    return stack.run(stack.embed(rows), 0, stack.num_loaded, rows, pool.layers), pool


def run_without(stack: LayerStack, skip_set: SkipSet) -> tuple[torch.Tensor, KVPool]:
    pool, table = open_pool(stack)
    rows = rows_of(stack, table)
    return stack.run_without(skip_set, stack.embed(rows), rows, pool.layers), pool


def test_an_empty_set_is_the_full_model_bit_for_bit(stack: LayerStack) -> None:
    assert torch.equal(run_without(stack, NOTHING_SKIPPED)[0], run_whole(stack)[0])


@pytest.mark.parametrize("gone", [1, 2])
def test_a_layer_skipped_whole_is_a_model_without_it(
    model_dir: Path, stack: LayerStack, tmp_path: Path, gone: int
) -> None:
    shorter = load_stack(without_layer(model_dir, tmp_path / "shorter", gone))
    x_RD, _ = run_without(stack, SkipSet(frozenset({2 * gone, 2 * gone + 1})))
    assert torch.equal(x_RD, run_whole(shorter)[0])


def test_a_skipped_sub_layer_leaves_its_kv_untouched(stack: LayerStack) -> None:
    _, pool = run_without(stack, SkipSet(frozenset({2, 5})))
    was_written = [bool(layer.count_nonzero()) for layer in pool.layers]
    assert was_written == [True, False, True, True]


def test_every_kept_sub_layer_runs_once(stack: LayerStack, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []
    for index, layer in enumerate(stack.layers):
        for name in ("attend", "feed_forward"):
            original = getattr(layer, name)

            def counted(*args: object, n: str = name, i: int = index, f=original) -> torch.Tensor:
                ran.append((n, i))
                return f(*args)

            monkeypatch.setattr(layer, name, counted)
    run_without(stack, SkipSet(frozenset({3, 4})))
    kept = [("attend", 0), ("feed_forward", 0), ("attend", 1), ("feed_forward", 2)]
    assert ran == [*kept, ("attend", 3), ("feed_forward", 3)]


def test_rows_of_different_sets_and_exits_share_a_step(stack: LayerStack) -> None:
    """Each row chooses what it chooses alone, and only those with an exit leave a state."""
    head = HeadWish(SamplingParams(), 1, 0, ())
    sets = [SkipSet(frozenset({2})), None, SkipSet(frozenset({3, 4})), SkipSet(frozenset({2}))]

    rows = [
        DraftRow(
            PageTable([Extent(index, 1)], PAGE_SIZE),
            TokenId(7 + index),
            0,
            0 if skip_set is not None else 2,
            index,
            0,
            head,
            skip_set=skip_set,
        )
        for index, skip_set in enumerate(sets)
    ]
    layout = replace(pool_layout(stack, 16, PAGE_SIZE), num_exit_slots=4)
    pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
    pool.exit_states.zero_()
    runner = StackDraftRunner(stack, pool)
    with torch.inference_mode():
        alone = [runner.step([row])[0].token_id for row in rows]
        pool.exit_states.zero_()
        found = [choice.token_id for choice in runner.step(rows)]
    assert found == alone
    assert [bool(each.count_nonzero()) for each in pool.exit_states] == [False, True, False, False]
