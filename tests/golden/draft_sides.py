"""Cells whose drafts are not made by the raw exit; their text is held to plain decoding."""

from collections.abc import Callable

from services.verify.session import SessionRequest
from shared.model.config import ModelConfig
from shared.model.layer_stack import LayerStack
from shared.speculation.vocabulary import LAYERSKIP, Decision, SamplingParams, SpeculationSummary
from tests.engine_harness import EngineHarness, FusedDrafter, make_request, split_with
from tests.golden.reference import GREEDY, ModelShelf, TieCount, make_prompt, sampled
from tests.model_builder import EOS_ID, NUM_LAYERS

NUM_NEW = 26
PENALISED = SamplingParams(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2)
SAMPLINGS = {"greedy": GREEDY, "penalised": PENALISED, "sampled": sampled(4)}

MakeStack = Callable[[ModelConfig, str, int], LayerStack]
"""From a configuration, the name of a draft side and a number of layers."""


class DraftSides:
    """Stacks with both heads and a draft side of a name; loaded once each."""

    def __init__(self, models: ModelShelf, make_stack: MakeStack) -> None:
        self._models = models
        self._make_stack = make_stack
        self._stacks: dict[tuple[str, str, int], LayerStack] = {}

    def stack(self, kind: str, name: str, num_layers: int = NUM_LAYERS) -> LayerStack:
        """Return a stack of a kind of model; `num_layers` are loaded at first."""
        key = (kind, name, num_layers)
        if key not in self._stacks:
            config = self._models.stack(kind).config
            self._stacks[key] = self._make_stack(config, name, num_layers)
        return self._stacks[key]

    def compare_with_plain(
        self, kind: str, mode: str, name: str, is_split: bool, ties: TieCount
    ) -> None:
        """Run sessions at every exit; each text must be that of plain decoding."""
        sampling = SAMPLINGS[mode]
        if is_split:
            stack = self._models.stack(kind)
            make_drafter = split_with(self.stack(kind, name, num_layers=1))
        else:
            stack, make_drafter = self.stack(kind, name), FusedDrafter
        for exit_layer in range(1, NUM_LAYERS):
            requests = make_requests(sampling, exit_layer)
            with EngineHarness(stack, make_drafter) as cell:
                found = cell.run(*requests)
            for recorded, request in zip(found, requests, strict=True):
                ids = request.token_ids
                plain = self._models.plain(kind, ids, NUM_NEW, sampling, [EOS_ID])
                label = f"{kind}-E{exit_layer}-{name}-{mode}"
                ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, label)
                assert recorded.reason == plain.finish_reason
                assert recorded.summary.num_drafts > 0 or len(recorded.token_ids) <= 2


def make_requests(
    sampling: SamplingParams, exit_layer: int = 2, threshold: float = 0.0
) -> list[SessionRequest]:
    """Return sessions that draft side by side, one at each depth."""
    num_exits = NUM_LAYERS - 1
    return [
        make_request(
            make_prompt(index, 6 + 5 * index),
            NUM_NEW,
            session_id=f"ses-{index}",
            wished=Decision(LAYERSKIP, 1 + (exit_layer - 1 + index) % num_exits, 4, threshold),
            sampling=sampling,
            stop_token_ids=[EOS_ID],
        )
        for index in range(num_exits)
    ]


def run_summed(stack: LayerStack, sampling: SamplingParams) -> SpeculationSummary:
    """Return what speculation did over the sessions of a fused cell."""
    total = SpeculationSummary()
    with EngineHarness(stack) as cell:
        for recorded in cell.run(*make_requests(sampling)):
            total.add(recorded.summary)
    return total
