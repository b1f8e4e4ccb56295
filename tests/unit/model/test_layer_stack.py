"""The layer stack: transformers' logits, a split run equal to a whole one, layers loaded late."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, RmsNorm, load_stack
from shared.model.page_table import PageTable
from shared.model.plain import PlainDecoder, pool_layout
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent, SamplingParams, StopParams
from tests.model_builder import (
    HIDDEN_SIZE,
    KINDS,
    NUM_LAYERS,
    VOCAB_SIZE,
    reference_logits,
    write_model,
)

TOKENS = torch.randint(3, VOCAB_SIZE, (45,), generator=torch.Generator().manual_seed(8)).tolist()


def make_pool(stack: LayerStack) -> tuple[KVPool, PageTable]:
    layout = pool_layout(stack, 64, 4)
    table = PageTable([Extent(8, 8), Extent(0, 8)], 4)
    return KVPool(LocalSegment(layout.size_bytes, stack.device), layout), table


def pack(stack: LayerStack, table: PageTable, start: int, end: int) -> RowBatch:
    return pack_rows([SessionRows(table, TOKENS[start:end], start)], stack.rope_table_P1C)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_len", [1, 6, 45])
def test_logits_equal_those_of_transformers(
    kind: str, chunk_len: int, model_path: Callable[[str], Path]
) -> None:
    stack = load_stack(model_path(kind))
    pool, table = make_pool(stack)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(TOKENS), chunk_len):
            rows = pack(stack, table, start, start + chunk_len)
            x_RD = stack.run(stack.embed(rows), 0, NUM_LAYERS, rows, pool.layers)
            parts.append(stack.head(x_RD))
    expected = reference_logits(model_path(kind), TOKENS)
    torch.testing.assert_close(torch.cat(parts), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_split_at_any_layer_equals_the_whole_run(
    kind: str, model_path: Callable[[str], Path]
) -> None:
    stack = load_stack(model_path(kind))
    whole_pool, table = make_pool(stack)
    with torch.inference_mode():
        rows = pack(stack, table, 0, 40)
        whole = stack.run(stack.embed(rows), 0, NUM_LAYERS, rows, whole_pool.layers)
        for exit_layer in range(NUM_LAYERS + 1):
            pool, _ = make_pool(stack)
            rows = pack(stack, table, 0, 40)
            x_RD = stack.run(stack.embed(rows), 0, exit_layer, rows, pool.layers)
            kept = x_RD.clone()
            x_RD = stack.run(x_RD, exit_layer, NUM_LAYERS, rows, pool.layers)
            torch.testing.assert_close(x_RD, whole, atol=0, rtol=0)
            for layer, expected in zip(pool.layers, whole_pool.layers, strict=True):
                assert torch.equal(layer, expected)
            if 0 < exit_layer < NUM_LAYERS:
                rows = pack(stack, table, 0, 40)
                again = stack.run(kept, exit_layer, NUM_LAYERS, rows, pool.layers)
                torch.testing.assert_close(again, whole, atol=0, rtol=0)


def test_sharded_weights_are_the_same_weights(tmp_path: Path) -> None:
    single = write_model(tmp_path / "single", "qwen3", seed=4)
    sharded = write_model(tmp_path / "sharded", "qwen3", seed=4, is_sharded=True)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    texts = [
        PlainDecoder(path).generate([5, 6, 7], SamplingParams(), StopParams(20))
        for path in (single, sharded)
    ]
    assert texts[0].token_ids == texts[1].token_ids
    # Loading names weights by file, so fingerprints differ between the two forms.
    assert load_stack(single).config.fingerprint != load_stack(sharded).config.fingerprint


def test_layers_are_loaded_up_to_a_bound_that_may_grow(
    model_path: Callable[[str], Path],
) -> None:
    path = model_path("llama")
    calls: list[tuple[str, int, int]] = []
    stack = load_stack(path, num_layers=1, progress=lambda *call: calls.append(call))
    assert calls == [("packing", 0, 1), ("packing", 1, 1)]
    assert stack.num_loaded == 1
    stack.ensure_loaded(3)
    stack.ensure_loaded(2)
    assert stack.num_loaded == 3
    whole = load_stack(path)
    pool, table = make_pool(stack)
    with torch.inference_mode():
        rows = pack(stack, table, 0, 10)
        found = stack.run(stack.embed(rows), 0, 3, rows, pool.layers)
        expected = whole.run(whole.embed(rows), 0, 3, rows, pool.layers)
    assert torch.equal(found, expected)


def test_work_is_counted_in_rows_times_layers_and_rows_of_the_head(
    model_path: Callable[[str], Path],
) -> None:
    stack = load_stack(model_path("llama"))
    pool, table = make_pool(stack)
    with torch.inference_mode():
        rows = pack(stack, table, 0, 7)
        x_RD = stack.run(stack.embed(rows), 1, 3, rows, pool.layers)
        stack.head(x_RD[:2])
    assert (stack.num_row_layers, stack.num_head_rows) == (14, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_root_mean_square_with_a_floor(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(5, HIDDEN_SIZE, generator=generator).to(dtype)
    x[3] = 0.0
    x[4] *= 1e-4
    weight = torch.randn(HIDDEN_SIZE, generator=generator).to(dtype)
    wide = x.float()
    expected = wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.float()
    found = RmsNorm(weight, 1e-6)(x)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


def test_a_bfloat16_stack_stays_near_the_float32_one(model_path: Callable[[str], Path]) -> None:
    logits = []
    for dtype in ("float32", "bfloat16"):
        stack = load_stack(model_path("llama"), dtype)
        layout = pool_layout(stack, 64, 4)
        pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        table = PageTable([Extent(0, 16)], 4)
        with torch.inference_mode():
            rows = pack(stack, table, 0, 20)
            x_RD = stack.run(stack.embed(rows), 0, NUM_LAYERS, rows, pool.layers)
            logits.append(stack.head(x_RD).log_softmax(-1))
    assert logits[1].dtype == torch.float32
    divergence = (logits[0].exp() * (logits[0] - logits[1])).sum(-1)
    assert divergence.max() < 0.05
