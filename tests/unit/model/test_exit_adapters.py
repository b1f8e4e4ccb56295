"""What drafts read exits through: the map, whose rows it is for, and who is not to notice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shared.ids import TokenId
from shared.model.costs import measure_costs
from shared.model.draft_runner import StackDraftRunner
from shared.model.exit_adapters import ExitAdapter, ExitAdapters
from shared.model.exit_reader import ExitReader
from shared.model.kv_pool import KVPool, PoolLayout
from shared.model.layer_stack import Heads, LayerStack, load_stack
from shared.model.page_table import PageTable
from shared.model.segment import LocalSegment
from shared.speculation.methods.base import DraftRow, HeadWish
from shared.speculation.vocabulary import Extent, SamplingParams
from tests.adapter_builder import make_adapters
from tests.golden.reference import PlainPass, make_prompt
from tests.model_builder import HIDDEN_SIZE, NUM_LAYERS

EXITS = (1, 3)


@pytest.fixture(scope="module")
def plain(model_path: Callable[[str], Path]) -> LayerStack:
    """A stack without adapters."""
    return load_stack(model_path("llama"))


@pytest.fixture(scope="module")
def adapted(plain: LayerStack) -> LayerStack:
    """The same with adapters at two of its three exits."""
    return LayerStack(plain.config, exit_adapters=make_adapters(plain.config, EXITS))


def states(num_rows: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (9 * torch.randn(num_rows, HIDDEN_SIZE, generator=generator)).to(dtype)


# --- the map --------------------------------------------------------------------------------------


def test_an_adapter_adds_a_map_of_low_rank() -> None:
    generator = torch.Generator().manual_seed(2)
    adapter = ExitAdapter(
        torch.randn(3, HIDDEN_SIZE, generator=generator),
        torch.randn(HIDDEN_SIZE, 3, generator=generator),
    )
    x_RD = states(4)
    before = x_RD.clone()
    added = adapter(x_RD).double() - x_RD.double()
    expected = x_RD.double() @ adapter.down_MD.double().t() @ adapter.up_DM.double().t()
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=1e-3)
    assert torch.linalg.matrix_rank(expected) == 3
    assert torch.equal(x_RD, before), "the exit states were changed"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 7])
def test_an_adapter_of_zeros_is_the_raw_exit_bit_for_bit(
    dtype: torch.dtype, num_rows: int, plain: LayerStack
) -> None:
    adapters = make_adapters(plain.config, EXITS, scale=0.0).to(torch.device("cpu"), dtype)
    x_RD = states(num_rows, dtype)
    assert torch.equal(adapters.apply(x_RD, [3] * num_rows), x_RD)


def test_rows_are_read_through_the_adapter_of_their_own_exit(plain: LayerStack) -> None:
    adapters = make_adapters(plain.config, EXITS)
    exit_layers = [3, 3, 2, 1, 1, 1, 3]
    x_RD = states(len(exit_layers))
    found = adapters.apply(x_RD, exit_layers)
    for row, exit_layer in enumerate(exit_layers):
        one = x_RD[row : row + 1]
        expected = adapters.by_exit[exit_layer](one) if exit_layer in EXITS else one
        torch.testing.assert_close(found[row : row + 1], expected)
    assert torch.equal(found[2], x_RD[2]), "exit 2 has no adapter"
    assert adapters.apply(x_RD[:0], []).shape == (0, HIDDEN_SIZE)


def test_adapters_know_their_sizes(plain: LayerStack) -> None:
    adapters = make_adapters(plain.config, (3, 1))
    assert (adapters.exit_layers, adapters.rank, adapters.hidden_size) == ((1, 3), 3, HIDDEN_SIZE)


# --- the stack ------------------------------------------------------------------------------------


def test_only_stacks_that_draft_have_them_in_the_type_of_the_model(plain: LayerStack) -> None:
    adapters = make_adapters(plain.config, EXITS)
    target = LayerStack(plain.config, heads=Heads.TARGET, exit_adapters=adapters)
    assert target.exit_adapters is None
    draft = LayerStack(plain.config, num_layers=1, heads=Heads.DRAFT, exit_adapters=adapters)
    assert draft.exit_adapters is not None
    assert draft.exit_adapters.by_exit[1].up_DM.dtype == plain.config.dtype
    x_RD = states(2)
    assert plain.adapt(x_RD, [1, 1]) is x_RD
    assert torch.equal(draft.adapt(x_RD, [1, 1]), adapters.apply(x_RD, [1, 1]))


def draft_step(stack: LayerStack, exit_layers: list[int]) -> tuple[list[TokenId], torch.Tensor]:
    """Return tokens and stored exit states of one greedy step at position 0; the last has no head.

    One session per row.
    """
    config = stack.config
    num_rows = len(exit_layers)
    layout = PoolLayout(
        num_rows, 4, config.num_layers, config.num_kv_heads, config.head_size,
        config.hidden_size, num_rows, 1, config.dtype_name,
    )  # fmt: skip
    pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
    wish = HeadWish(SamplingParams(), 1, 1, ())
    rows = [
        DraftRow(
            PageTable([Extent(row, 1)], 4), TokenId(7 + row), 0, exit_layer, row, 0,
            wish if row < num_rows - 1 else None,
        )
        for row, exit_layer in enumerate(exit_layers)
    ]  # fmt: skip
    with torch.inference_mode():
        choices = StackDraftRunner(stack, pool).step(rows)
    return [choice.token_id for choice in choices], pool.exit_states[:, 0].clone()


def test_a_draft_step_hands_over_raw_exits_and_reads_adapted_ones(
    plain: LayerStack, adapted: LayerStack
) -> None:
    exit_layers = [3, 3, 2, 1, 1]
    raw_tokens, raw_states = draft_step(plain, exit_layers)
    tokens, exit_states = draft_step(adapted, exit_layers)
    assert torch.equal(exit_states, raw_states)
    with torch.inference_mode():
        logits = plain.head(adapted.adapt(exit_states[:-1], exit_layers[:-1]))
    assert tokens == logits.argmax(-1).tolist()
    assert tokens[2] == raw_tokens[2] and tokens != raw_tokens


def test_exits_are_read_through_their_adapters(plain: LayerStack, adapted: LayerStack) -> None:
    text = [TokenId(token) for token in make_prompt(3, 30)]
    raw, found = (ExitReader(stack, len(text)).read(text, 5) for stack in (plain, adapted))
    assert found[1].tokens != raw[1].tokens and found[3].tokens != raw[3].tokens
    assert found[2] == raw[2]
    assert found[NUM_LAYERS] == raw[NUM_LAYERS]
    logits = PlainPass(adapted, text).logits_of_exit(NUM_LAYERS)[4:-1]
    assert found[NUM_LAYERS].tokens == logits.argmax(-1).tolist()


def test_costs_of_a_draft_step_have_the_adapter_in_them(
    adapted: LayerStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def apply(self: ExitAdapters, x_RD: torch.Tensor, exit_layers: list[int]) -> torch.Tensor:
        asked.extend(exit_layers)
        return x_RD

    monkeypatch.setattr(ExitAdapters, "apply", apply)
    measure_costs(adapted, [1, 2], max_draft_len=1, context_len=4, num_runs=1)
    assert sorted(set(asked)) == [1, 2]
    assert asked.count(1) == asked.count(2), "draft steps alone"
