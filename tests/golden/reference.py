"""What golden tests compare with: plain text of a model, and how much may differ.

A mismatch is a failure unless the target's top-two gap at that place is below TIE_GAP; such near
ties are counted, and there must be few.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.model.config import read_config
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.page_table import PageTable
from shared.model.plain import PAGE_SIZE, PlainDecoder, PlainResult, pool_layout
from shared.model.rows import SessionRows, pack_rows
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent, SamplingParams, StopParams
from tests.draft_adapter_builder import make_draft_adapters
from tests.model_builder import NUM_LAYERS, VOCAB_SIZE, write_model

TIE_GAP = 1e-4

GREEDY = SamplingParams()


def sampled(seed: int) -> SamplingParams:
    """Return sampling with every kind of warping on."""
    return SamplingParams(
        temperature=0.9,
        top_k=40,
        top_p=0.97,
        min_p=0.01,
        seed=seed,
        repetition_penalty=1.15,
        presence_penalty=0.2,
        frequency_penalty=0.1,
        logit_bias=((7, 0.5), (11, -0.5)),
    )


def make_prompt(seed: int, num_tokens: int) -> list[int]:
    """Return a random prompt without padding, start and end ids."""
    generator = random.Random(seed)
    return [generator.randrange(3, VOCAB_SIZE) for _ in range(num_tokens)]


@dataclass
class TieCount:
    """Texts compared and near ties met."""

    num_texts: int = 0
    num_ties: int = 0

    def compare(
        self, found: Sequence[int], expected: Sequence[int], gaps: Sequence[float], label: str
    ) -> None:
        """Fail unless two texts are equal up to a near tie of the target."""
        self.num_texts += 1
        if list(found) == list(expected):
            return
        pairs = zip(found, expected, strict=False)
        index = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        assert index is not None, f"{label}: {len(found)} tokens, plain has {len(expected)}"
        assert gaps[index] < TIE_GAP, (
            f"{label}: token {index} is {found[index]}, plain has {expected[index]} "
            f"(gap {gaps[index]:.2e})\n found {list(found)}\n plain {list(expected)}"
        )
        self.num_ties += 1


class ModelShelf:
    """Tiny models by kind; written, loaded and asked for a plain text once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stacks: dict[str, LayerStack] = {}
        self._draft_stacks: dict[str, LayerStack] = {}
        self._adapted: dict[str, LayerStack] = {}
        self._adapted_drafts: dict[str, LayerStack] = {}
        self._decoders: dict[str, PlainDecoder] = {}
        self._texts: dict[object, PlainResult] = {}

    def path(self, kind: str) -> Path:
        """Return the model's directory."""
        path = self._folder / kind
        return path if path.exists() else write_model(path, kind)

    def adapted(self, kind: str) -> LayerStack:
        """Return a verify side's stack with draft adapters at every exit, for both methods."""
        if kind not in self._adapted:
            self._adapted[kind] = self._with_adapters(kind, NUM_LAYERS)
        return self._adapted[kind]

    def adapted_draft_stack(self, kind: str) -> LayerStack:
        """Return another stack with the same adapters, with one layer loaded at first."""
        if kind not in self._adapted_drafts:
            self._adapted_drafts[kind] = self._with_adapters(kind, 1)
        return self._adapted_drafts[kind]

    def _with_adapters(self, kind: str, num_layers: int) -> LayerStack:
        config = read_config(self.path(kind))
        adapters = make_draft_adapters(config, range(1, NUM_LAYERS))
        return LayerStack(config, num_layers=num_layers, draft_adapters=adapters)

    def stack(self, kind: str) -> LayerStack:
        """Return the verify side's stack."""
        if kind not in self._stacks:
            self._stacks[kind] = load_stack(self.path(kind))
        return self._stacks[kind]

    def draft_stack(self, kind: str) -> LayerStack:
        """Return another stack of the same weights, with one layer loaded at first."""
        if kind not in self._draft_stacks:
            self._draft_stacks[kind] = load_stack(self.path(kind), num_layers=1)
        return self._draft_stacks[kind]

    def plain(
        self,
        kind: str,
        prompt: Sequence[int],
        num_new: int,
        sampling: SamplingParams = GREEDY,
        stop_token_ids: Sequence[int] = (),
    ) -> PlainResult:
        """Return the plain text behind a prompt."""
        key = (kind, tuple(prompt), num_new, sampling, tuple(stop_token_ids))
        if key not in self._texts:
            if kind not in self._decoders:
                self._decoders[kind] = PlainDecoder(self.path(kind), stack=self.stack(kind))
            stop = StopParams(num_new, frozenset(stop_token_ids))
            self._texts[key] = self._decoders[kind].generate(list(prompt), sampling, stop)
        return self._texts[key]


class PlainPass:
    """One teacher-forced pass of the whole stack over a text, in a pool of its own."""

    def __init__(self, stack: LayerStack, tokens: Sequence[int]) -> None:
        layout = pool_layout(stack, len(tokens), PAGE_SIZE)
        pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        table = PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)
        rows = pack_rows([SessionRows(table, list(tokens), 0)], stack.rope_table_P1C)
        self.exit_logits: list[torch.Tensor] = []
        with torch.inference_mode():
            x_RD = stack.embed(rows)
            for layer in range(stack.config.num_layers):
                x_RD = stack.run(x_RD, layer, layer + 1, rows, pool.layers)
                self.exit_logits.append(stack.head(x_RD))
        self.kv_layers = pool.layers

    def logits_of_exit(self, exit_layer: int) -> torch.Tensor:
        """Return the logits [R, V] read at an exit."""
        return self.exit_logits[exit_layer - 1]
