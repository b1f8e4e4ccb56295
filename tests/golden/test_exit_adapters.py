"""Drafting through exit adapters: the text is that of plain decoding, however bad they are."""

import pytest

from shared.model.config import ModelConfig
from shared.model.layer_stack import LayerStack
from tests.adapter_builder import make_adapters
from tests.golden.draft_sides import SAMPLINGS, DraftSides, run_summed
from tests.golden.pairwise import pairwise
from tests.golden.reference import GREEDY, ModelShelf, TieCount

# Random maps as strong as the exit states; identities; one exit alone, the others being read raw.
ADAPTERS = {"random": ((1, 2, 3), 0.5), "zero": ((1, 2, 3), 0.0), "one exit": ((2,), 0.5)}


def make_stack(config: ModelConfig, name: str, num_layers: int) -> LayerStack:
    """Load a stack with adapters."""
    adapters = make_adapters(config, *ADAPTERS[name])
    return LayerStack(config, num_layers=num_layers, exit_adapters=adapters)


@pytest.fixture(scope="module")
def adapted(shelf: ModelShelf) -> DraftSides:
    return DraftSides(shelf, make_stack)


@pytest.mark.parametrize(
    ("kind", "mode", "name", "is_split"),
    pairwise(("llama", "qwen3"), list(SAMPLINGS), ("random", "one exit"), (False, True)),
)
def test_speculative_text_equals_plain_text(
    kind: str,
    mode: str,
    name: str,
    is_split: bool,
    adapted: DraftSides,
    ties: TieCount,
) -> None:
    adapted.compare_with_plain(kind, mode, name, is_split, ties)


@pytest.mark.parametrize("mode", SAMPLINGS)
def test_adapters_of_zeros_are_accepted_as_often_as_none(
    mode: str, shelf: ModelShelf, adapted: DraftSides
) -> None:
    expected = run_summed(shelf.stack("llama"), SAMPLINGS[mode])
    assert run_summed(adapted.stack("llama", "zero"), SAMPLINGS[mode]) == expected
    assert expected.num_accepted_tokens > 0, "nothing to compare"


def test_adapters_decide_what_is_drafted(shelf: ModelShelf, adapted: DraftSides) -> None:
    raw = run_summed(shelf.stack("llama"), GREEDY)
    assert run_summed(adapted.stack("llama", "random"), GREEDY) != raw
