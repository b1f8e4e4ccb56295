"""Draft adapters: their sizes, and their maths however their rows come."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from shared.model.config import read_config
from shared.model.draft_adapter_weights import HeadLayout
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import Heads, LayerStack
from shared.model.page_table import PageTable
from shared.model.plain import pool_layout
from shared.model.rows import SessionRows, pack_rows
from shared.model.segment import LocalSegment
from shared.speculation.methods.base import DraftMeans
from shared.speculation.vocabulary import Extent
from tests.draft_adapter_builder import make_draft_adapter, make_draft_adapters
from tests.model_builder import NUM_LAYERS, reference_model, write_model

TEXT = [3 + 7 * index % 90 for index in range(23)]
PAGE_SIZE = 4
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
KINDS = ("llama", "qwen3", "mistral-window", "llama3-rope")


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LayerStack]:
    """Models of several families, with adapters at exits 1 and 3."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for kind in KINDS:
        config = read_config(write_model(folder / kind, kind))
        found[kind] = LayerStack(config, draft_adapters=make_draft_adapters(config, (3, 1)))
    return found


@pytest.mark.parametrize(
    ("layout", "num_parameters"),
    [
        (HeadLayout(4096, 32, 32, 128), 67_117_056),
        (HeadLayout(5120, 40, 40, 128), 104_867_840),
        (HeadLayout(4096, 32, 8, 128), 41_951_232),
        (HeadLayout(3584, 28, 4, 128), 29_367_296),
        (HeadLayout(384, 6, 6, 64), 590_592),
    ],
    ids=["Vicuna-7B", "Vicuna-13B", "Llama3-8B", "Qwen2.5-7B", "small"],
)
def test_an_adapter_has_the_weights_of_one_attention_and_two_norms(
    layout: HeadLayout, num_parameters: int
) -> None:
    assert sum(torch.Size(shape).numel() for shape in layout.shapes().values()) == num_parameters


class Text:
    """The text in a pool of its own, run to an exit in parts."""

    def __init__(self, stack: LayerStack) -> None:
        layout = pool_layout(stack, len(TEXT), PAGE_SIZE)
        self._stack = stack
        self._pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        # Pages in an order of their own, so that positions lie in several ranges of slots.
        last = layout.num_pages - 1
        self._table = PageTable([Extent(last - i, 1) for i in range(last + 1)], PAGE_SIZE)

    def read(self, exit_layer: int, parts: Sequence[int]) -> torch.Tensor:
        """Run the text part by part; return what the adapter of the exit makes of its rows."""
        found, start = [], 0
        stack = self._stack
        with torch.inference_mode():
            for length in parts:
                ids = TEXT[start : start + length]
                rows = pack_rows([SessionRows(self._table, ids, start)], stack.rope_table_P1C)
                x_RD = stack.run(stack.embed(rows), 0, exit_layer, rows, self._pool.layers)
                z_RD = stack.read_through_adapter(x_RD, exit_layer, rows, self._pool.layers)
                found.append(z_RD)
                start += length
        return torch.cat(found)

    def kv(self, exit_layer: int) -> torch.Tensor:
        """Return the adapter's keys and values of the text."""
        kv = self._pool.layers[self._stack.draft_adapters[exit_layer].kv_layer]
        return kv.index_select(2, torch.tensor(self._table.slots(0, len(TEXT))))

    def run_alone(self, exit_layer: int) -> None:
        """Run the text to the exit, and read nothing."""
        stack = self._stack
        with torch.inference_mode():
            rows = pack_rows([SessionRows(self._table, TEXT, 0)], stack.rope_table_P1C)
            stack.run(stack.embed(rows), 0, exit_layer, rows, self._pool.layers)


def expected(kind: str, stack: LayerStack, exit_layer: int) -> torch.Tensor:
    """Return z of the text by the formula, row by row, from transformers' own hidden states."""
    model = reference_model(stack.config.path)
    weights = stack.draft_adapters[exit_layer].weights
    tensors, layout = weights.tensors, weights.layout
    ids = torch.tensor([TEXT])
    with torch.inference_mode():
        f_TD = model(ids, output_hidden_states=True).hidden_states[exit_layer][0]
        cos, sin = model.model.rotary_emb(f_TD[None], torch.arange(len(TEXT))[None])
        u_TD = rms(f_TD, tensors["norm_in"], weights.rms_eps)

        def heads(name: str, num_heads: int) -> torch.Tensor:
            return (u_TD @ tensors[name].t()).view(len(TEXT), num_heads, layout.head_size)

        queries = turn(heads("wq", layout.num_heads), cos[0], sin[0])
        keys = turn(heads("wk", layout.num_kv_heads), cos[0], sin[0])
        values = heads("wv", layout.num_kv_heads)
        out = []
        for t in range(len(TEXT)):
            attended = []
            for head in range(layout.num_heads):
                group = head // (layout.num_heads // layout.num_kv_heads)
                scores = keys[: t + 1, group] @ queries[t, head] / layout.head_size**0.5
                attended.append(F.softmax(scores, 0) @ values[: t + 1, group])
            a_D = f_TD[t] + tensors["wo"] @ torch.cat(attended)
            out.append(rms(a_D, tensors["norm_out"], weights.rms_eps))
    return torch.stack(out)


def rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = heads.chunk(2, -1)
    return heads * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exit_layer", [1, 3])
def test_it_computes_the_formula_over_the_whole_text(
    kind: str, exit_layer: int, stacks: dict[str, LayerStack]
) -> None:
    stack = stacks[kind]
    found = Text(stack).read(exit_layer, [len(TEXT)])
    torch.testing.assert_close(found, expected(kind, stack, exit_layer), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [[1] * 23, [9, 1, 1, 5, 7], [3] * 7 + [2]], ids=str)
def test_rows_one_at_a_time_or_in_chunks_give_what_the_whole_text_gives(
    kind: str, parts: list[int], stacks: dict[str, LayerStack]
) -> None:
    whole, cut = Text(stacks[kind]), Text(stacks[kind])
    torch.testing.assert_close(cut.read(3, parts), whole.read(3, [len(TEXT)]), **TOLERANCE)
    for exit_layer in (1, 3):
        torch.testing.assert_close(cut.kv(exit_layer), whole.kv(exit_layer), **TOLERANCE)


def test_whoever_runs_the_layer_writes_the_keys_and_values_that_reading_finds(
    stacks: dict[str, LayerStack],
) -> None:
    read, passed = Text(stacks["llama"]), Text(stacks["llama"])
    read.read(3, [len(TEXT)])
    passed.run_alone(NUM_LAYERS)
    for exit_layer in (1, 3):
        assert torch.equal(read.kv(exit_layer), passed.kv(exit_layer))
        assert read.kv(exit_layer).abs().sum() > 0


def test_only_layers_that_are_passed_write(stacks: dict[str, LayerStack]) -> None:
    stack, text = stacks["llama"], Text(stacks["llama"])
    before = stack.num_adapter_kv_rows
    text.run_alone(2)
    assert stack.num_adapter_kv_rows == before + len(TEXT)
    assert not text.kv(3).any() and text.kv(1).any()


def test_an_adapter_that_adds_nothing_reads_as_the_raw_exit(tmp_path: Path) -> None:
    config = read_config(write_model(tmp_path / "model"))
    stack = LayerStack(config, draft_adapters=[make_draft_adapter(config, 2, scale=0.0)])
    found = Text(stack).read(2, [len(TEXT)])
    model = reference_model(config.path)
    with torch.inference_mode():
        hidden = model(torch.tensor([TEXT]), output_hidden_states=True).hidden_states[2][0]
        raw = model.lm_head(model.model.norm(hidden))
        torch.testing.assert_close(stack.score_drafts(found), raw, rtol=1e-4, atol=1e-4)


def test_each_adapter_has_a_layer_of_its_own_behind_those_of_the_model(
    stacks: dict[str, LayerStack],
) -> None:
    stack = stacks["llama"]
    assert stack.num_kv_layers == NUM_LAYERS + 2
    layers = {each: adapter.kv_layer for each, adapter in stack.draft_adapters.items()}
    assert layers == {1: NUM_LAYERS, 3: NUM_LAYERS + 1}
    assert stack.means == DraftMeans(NUM_LAYERS, (1, 3))


def test_a_stack_that_never_drafts_has_no_use_for_them(stacks: dict[str, LayerStack]) -> None:
    config = stacks["llama"].config
    stack = LayerStack(config, heads=Heads.TARGET, draft_adapters=make_draft_adapters(config, (1,)))
    assert stack.num_kv_layers == NUM_LAYERS and stack.means.adapter_layers == ()
