"""Drafting through exit adapters: the text is that of plain decoding, however bad they are."""

import pytest

from services.verify.session import SessionRequest
from shared.model.layer_stack import LayerStack
from shared.speculation.vocabulary import LAYERSKIP, Decision, SamplingParams, SpeculationSummary
from tests.adapter_builder import make_adapters
from tests.engine_harness import EngineHarness, FusedDrafter, make_request, split_with
from tests.golden.reference import GREEDY, ModelShelf, TieCount, make_prompt, sampled
from tests.model_builder import EOS_ID, NUM_LAYERS

NUM_NEW = 26
PENALISED = SamplingParams(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2)
SAMPLINGS = {"greedy": GREEDY, "penalised": PENALISED, "sampled": sampled(4)}
# Random maps as strong as the exit states; identities; one exit alone, the others being read raw.
ADAPTERS = {"random": ((1, 2, 3), 0.5), "zero": ((1, 2, 3), 0.0), "one exit": ((2,), 0.5)}


class Shelf:
    """Stacks with adapters; loaded once each."""

    def __init__(self, models: ModelShelf) -> None:
        self._models = models
        self._stacks: dict[tuple[str, str, int], LayerStack] = {}

    def stack(self, kind: str, name: str, num_layers: int = NUM_LAYERS) -> LayerStack:
        """Return a stack with both heads; `num_layers` are loaded at first."""
        key = (kind, name, num_layers)
        if key not in self._stacks:
            config = self._models.stack(kind).config
            adapters = make_adapters(config, *ADAPTERS[name])
            self._stacks[key] = LayerStack(config, num_layers=num_layers, exit_adapters=adapters)
        return self._stacks[key]


@pytest.fixture(scope="module")
def adapted(shelf: ModelShelf) -> Shelf:
    return Shelf(shelf)


def make_requests(sampling: SamplingParams, exit_layer: int = 2) -> list[SessionRequest]:
    """Return three sessions that draft side by side, at all three depths."""
    exits = [exit_layer, 1 + exit_layer % 3, 1 + (exit_layer + 1) % 3]
    return [
        make_request(
            make_prompt(index, 6 + 5 * index),
            NUM_NEW,
            session_id=f"ses-{index}",
            wished=Decision(LAYERSKIP, exits[index], 4, 0.0),
            sampling=sampling,
            stop_token_ids=[EOS_ID],
        )
        for index in range(3)
    ]


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("mode", SAMPLINGS)
@pytest.mark.parametrize("name", ["random", "one exit"])
@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
def test_speculative_text_equals_plain_text(
    kind: str,
    mode: str,
    name: str,
    is_split: bool,
    shelf: ModelShelf,
    adapted: Shelf,
    ties: TieCount,
) -> None:
    sampling = SAMPLINGS[mode]
    if is_split:
        stack, make_drafter = shelf.stack(kind), split_with(adapted.stack(kind, name, num_layers=1))
    else:
        stack, make_drafter = adapted.stack(kind, name), FusedDrafter
    for exit_layer in range(1, NUM_LAYERS):
        requests = make_requests(sampling, exit_layer)
        with EngineHarness(stack, make_drafter) as cell:
            found = cell.run(*requests)
        for recorded, request in zip(found, requests, strict=True):
            plain = shelf.plain(kind, request.token_ids, NUM_NEW, sampling, [EOS_ID])
            label = f"{kind}-E{exit_layer}-{name}-{mode}"
            ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, label)
            assert recorded.reason == plain.finish_reason
            assert recorded.summary.num_drafts > 0 or len(recorded.token_ids) <= 2


def run_summed(stack: LayerStack, sampling: SamplingParams) -> SpeculationSummary:
    """Return what speculation did over the sessions of a fused cell."""
    total = SpeculationSummary()
    with EngineHarness(stack) as cell:
        for recorded in cell.run(*make_requests(sampling)):
            total.add(recorded.summary)
    return total


@pytest.mark.parametrize("mode", SAMPLINGS)
def test_adapters_of_zeros_are_accepted_as_often_as_none(
    mode: str, shelf: ModelShelf, adapted: Shelf
) -> None:
    expected = run_summed(shelf.stack("llama"), SAMPLINGS[mode])
    assert run_summed(adapted.stack("llama", "zero"), SAMPLINGS[mode]) == expected
    assert expected.num_accepted_tokens > 0, "nothing to compare"


def test_adapters_decide_what_is_drafted(shelf: ModelShelf, adapted: Shelf) -> None:
    raw = run_summed(shelf.stack("llama"), GREEDY)
    assert run_summed(adapted.stack("llama", "random"), GREEDY) != raw
