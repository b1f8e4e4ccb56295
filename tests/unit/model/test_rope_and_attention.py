"""Rotation as transformers does it; attention over windows and scattered pages as by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from shared.errors import BadModel
from shared.model import attention
from shared.model.attention import attend
from shared.model.config import read_config
from shared.model.layer_stack import load_stack
from shared.model.page_table import PageTable
from shared.model.rope import interleave_halves, rope_table, rotate
from shared.model.rows import SessionRows, pack_rows
from shared.speculation.tree import row_paths
from shared.speculation.vocabulary import Extent
from tests.model_builder import MAX_CONTEXT_LEN, edit_config, write_model

NUM_HEADS, GROUPS, HEAD_SIZE = 4, 2, 8


@pytest.mark.parametrize("kind", ["llama", "llama3-rope"])
def test_rotation_equals_that_of_transformers_but_for_the_order_of_elements(
    kind: str, model_path: Callable[[str], Path]
) -> None:
    config = read_config(model_path(kind))
    positions = torch.tensor([[0, 1, 5, 31, 32, 33, 90, MAX_CONTEXT_LEN - 1]])
    generator = torch.Generator().manual_seed(3)
    heads = torch.randn(8, 6, config.head_size, generator=generator)
    cos, sin = LlamaRotaryEmbedding(config.hf_config)(heads, positions)
    heads_NRH = heads.transpose(0, 1)[None]
    expected, _ = apply_rotary_pos_emb(heads_NRH, heads_NRH, cos, sin)
    expected = expected[0].transpose(0, 1)

    order = interleave_halves(torch.arange(config.head_size), 1)
    found = heads[:, :, order].contiguous()
    rotate(found, rope_table(config, torch.device("cpu"))[positions[0]])
    torch.testing.assert_close(found, expected[:, :, order], atol=2e-5, rtol=1e-5)


def test_rotation_of_bfloat16_goes_through_float32(model_path: Callable[[str], Path]) -> None:
    config = read_config(model_path("llama"))
    factors = rope_table(config, torch.device("cpu"))[[3, 100]]
    heads = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    wide = heads.float()
    rotate(wide, factors)
    rotate(heads, factors)
    assert torch.equal(heads, wide.bfloat16())


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope", "spiral"])
def test_a_rotation_that_is_unknown_or_depends_on_the_length_is_refused(
    rope_type: str, model_path: Callable[[str], Path]
) -> None:
    config = read_config(model_path("llama"))
    hf = SimpleNamespace(rope_parameters={"rope_type": rope_type, "rope_theta": 1e4})
    with pytest.raises(BadModel, match=rope_type):
        rope_table(replace(config, hf_config=hf), torch.device("cpu"))


def naive_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None
) -> torch.Tensor:
    """Attend row by row and head by head; keys and values are [T, G, H]."""
    num_rows, num_keys = queries.shape[0], keys.shape[0]
    out = torch.empty(num_rows, NUM_HEADS, HEAD_SIZE, dtype=torch.float64)
    for row in range(num_rows):
        position = num_keys - num_rows + row
        first = 0 if window is None else max(0, position - window + 1)
        for head in range(NUM_HEADS):
            group = head // (NUM_HEADS // GROUPS)
            seen = keys[first : position + 1, group].double()
            weights = (seen @ queries[row, head].double() / HEAD_SIZE**0.5).softmax(0)
            out[row, head] = weights @ values[first : position + 1, group].double()
    return out.view(num_rows, -1).float()


@pytest.mark.parametrize("window", [None, 1, 2, 7, 64])
@pytest.mark.parametrize("pages", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
                                   [14, 3, 4, 9, 0, 1, 2, 12, 5, 6, 7, 13, 8, 10, 11]],
                         ids=["in place", "in several ranges"])  # fmt: skip
@pytest.mark.parametrize("range_bytes", [0, 1 << 40], ids=["merged", "gathered"])
@pytest.mark.parametrize(
    ("start", "num_rows"), [(0, 1), (0, 9), (12, 1), (11, 5), (3, 32), (20, 36), (0, 59)]
)
def test_attention_equals_a_naive_one(
    start: int,
    num_rows: int,
    range_bytes: int,
    pages: list[int],
    window: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "RANGE_BYTES", range_bytes)
    generator = torch.Generator().manual_seed(start + num_rows)
    page_size, end = 4, start + num_rows
    table = PageTable([Extent(page, 1) for page in pages], page_size)
    # What no position of the session holds must not be read at all.
    kv = torch.full((2, GROUPS, 60, HEAD_SIZE), torch.nan)
    own = torch.randn(2, GROUPS, end, HEAD_SIZE, generator=generator)
    kv[:, :, table.slots(0, end)] = own
    queries = torch.randn(num_rows, NUM_HEADS, HEAD_SIZE, generator=generator)
    factors = torch.ones(64, 1, HEAD_SIZE // 2, dtype=torch.complex64)
    batch = pack_rows([SessionRows(table, [1] * num_rows, start)], factors)
    found = attend(queries, kv, batch.spans, window)
    keys, values = own.transpose(1, 2)
    torch.testing.assert_close(
        found, naive_attention(queries, keys, values, window), atol=1e-5, rtol=1e-4
    )


# Parents of a tree's nodes, and the rows of it that are in the pass.
TREES = {
    "a chain": ((-1, 0, 1), None),
    "a comb": ((-1, -1, 0, 0, 2, 2, 2), None),
    "branches": ((-1, -1, -1, 1, 0, 3, 4, 3), None),
    "a level": ((-1, -1, -1, 1, 0, 3, 4, 3), (4, 5)),
    "a row": ((-1, -1, 0, 1, 2), (3,)),
}


@pytest.mark.parametrize("window", [None, 1, 3, 9])
@pytest.mark.parametrize("pages", [list(range(15)), [14, 3, 4, 9, 0, 1, 2, 12, 5, 6, 7, 13]],
                         ids=["in place", "in several ranges"])  # fmt: skip
@pytest.mark.parametrize("range_bytes", [0, 1 << 40], ids=["merged", "gathered"])
@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("start", [0, 11, 30])
def test_a_row_of_a_tree_sees_what_it_would_if_its_path_were_all_there_is(
    start: int,
    tree: str,
    range_bytes: int,
    pages: list[int],
    window: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "RANGE_BYTES", range_bytes)
    generator = torch.Generator().manual_seed(start)
    parents, in_pass = TREES[tree]
    all_paths = row_paths(parents)
    paths = [all_paths[row] for row in in_pass or range(len(all_paths))]
    end = start + 1 + max(path[-1] for path in paths)
    table = PageTable([Extent(page, 1) for page in pages], 4)
    kv = torch.full((2, GROUPS, 60, HEAD_SIZE), torch.nan)
    own = torch.randn(2, GROUPS, end, HEAD_SIZE, generator=generator)
    kv[:, :, table.slots(0, end)] = own
    queries = torch.randn(len(paths), NUM_HEADS, HEAD_SIZE, generator=generator)
    factors = torch.arange(64).to(torch.complex64).view(64, 1, 1)
    batch = pack_rows([SessionRows(table, [1] * len(paths), start, paths)], factors)
    assert batch.slots_R.tolist() == [table.slots(0, end)[start + path[-1]] for path in paths]
    positions = [start + len(path) - 1 for path in paths]
    assert batch.rope_R1C.real.flatten().tolist() == positions
    found = attend(queries, kv, batch.spans, window)
    for row, path in enumerate(paths):
        seen = [*range(start), *(start + each for each in path)]
        keys, values = own[:, :, seen].transpose(1, 2)
        expected = naive_attention(queries[row : row + 1], keys, values, window)
        torch.testing.assert_close(found[row : row + 1], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sessions_of_a_pass_are_attended_to_as_if_alone(
    dtype: torch.dtype, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "RANGE_BYTES", 0)
    generator = torch.Generator().manual_seed(6)
    kv = torch.randn(2, GROUPS, 64, HEAD_SIZE, generator=generator).to(dtype)
    shared_prefix = Extent(12, 3)
    sessions = [
        SessionRows(PageTable([Extent(0, 2)], 4), [1], 6),
        SessionRows(PageTable([shared_prefix, Extent(4, 2)], 4), [1], 17),
        SessionRows(PageTable([shared_prefix, Extent(6, 3)], 4), [1] * 3, 15),
        SessionRows(PageTable([Extent(9, 3)], 4), [1] * 4, 7),
        SessionRows(PageTable([shared_prefix, Extent(3, 1), Extent(2, 1)], 4), [1] * 3, 14),
    ]
    factors = torch.ones(64, 1, HEAD_SIZE // 2, dtype=torch.complex64)
    batch = pack_rows(sessions, factors)
    # As in a layer: queries lie beside the keys and values of their rows.
    heads = torch.randn(batch.num_rows, NUM_HEADS + 2 * GROUPS, HEAD_SIZE, generator=generator)
    queries = heads.to(dtype)[:, :NUM_HEADS]
    found = attend(queries, kv, batch.spans, window)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for session, span in zip(sessions, batch.spans, strict=True):
        own = kv[:, :, session.table.slots(0, span.kv_len)].float()
        rows = slice(span.row_start, span.row_end)
        keys, values = own.transpose(1, 2)
        expected = naive_attention(queries[rows].float(), keys, values, window)
        torch.testing.assert_close(found[rows].float(), expected, atol=tolerance, rtol=tolerance)


def test_rows_of_sessions_are_packed_in_order_and_cut_by_session() -> None:
    factors = torch.arange(32).to(torch.complex64).view(32, 1, 1)
    left = SessionRows(PageTable([Extent(2, 2)], 4), [7, 8, 9], 1)
    right = SessionRows(PageTable([Extent(6, 1), Extent(0, 1)], 4), [5, 6], 3)
    batch = pack_rows([left, right], factors)
    assert batch.token_ids_R.tolist() == [7, 8, 9, 5, 6]
    assert batch.slots_R.tolist() == [9, 10, 11, 27, 0]
    assert batch.rope_R1C.real.flatten().tolist() == [1, 2, 3, 3, 4]
    assert [(span.row_start, span.row_end, span.kv_len) for span in batch.spans] == [
        (0, 3, 4),
        (3, 5, 5),
    ]
    first = batch.prefix(1)
    assert (first.num_rows, first.token_ids_R.tolist()) == (3, [7, 8, 9])
    assert batch.prefix(2).num_rows == 5


def test_a_config_with_a_rotation_that_depends_on_the_length_does_not_load(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model")
    edit_config(path, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    with pytest.raises(BadModel, match="dynamic"):
        load_stack(path)
