"""Times of a draft step with the whole vocabulary and with parts of it, on a random model.

Stacks of draft workers with the same weights take turns at the same step, one row behind a context.
Torch lives here; imported late by the command.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from transformers.utils.logging import disable_progress_bar

from shared.ids import TokenId
from shared.model.config import ModelConfig, read_config
from shared.model.draft_runner import StackDraftRunner
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import Heads, LayerStack
from shared.model.page_table import PageTable
from shared.model.plain import PAGE_SIZE, pool_layout
from shared.model.segment import LocalSegment
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.methods.base import DraftRow, HeadWish
from shared.speculation.vocabulary import Extent, SamplingParams
from shortstack.bench.shapes import ModelShape
from shortstack.bench.synthetic_model import Recipe, build_model
from shortstack.bench.words import EOS_ID, first_word_id

CONTEXT_LEN = 256
NUM_WARM_UPS = 5
GREEDY = SamplingParams()
SAMPLED = SamplingParams(temperature=0.8, top_p=0.95, seed=1)


@dataclass(frozen=True, slots=True)
class DraftStepTimes:
    """Medians in ns; `greedy_ns` and `sampled_ns` by tokens that drafts are scored by."""

    layers_alone_ns: float
    greedy_ns: dict[int, float]
    sampled_ns: dict[int, float]


def measure_draft_steps(
    shape: ModelShape, exit_layer: int, sizes: list[int], num_runs: int
) -> DraftStepTimes:
    """Time a draft step of a random model for every size of its draft vocabulary.

    Args:
        shape: the model's; its vocabulary is one of the sizes measured.
        exit_layer: layers [0, E) are run.
        sizes: tokens that drafts are scored by.
        num_runs: timed runs of each part, interleaved.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = _write_model(Path(folder), shape)
        drafting = {
            size: _Drafting(config, exit_layer, size) for size in (shape.vocab_size, *sizes)
        }
        alone = _Drafting(config, exit_layer, min(drafting))
    # None follows one of its own stack: the processor's cache would still hold the layers.
    parts = [partial(each.step, GREEDY) for each in drafting.values()]
    parts += [partial(each.step, SAMPLED) for each in drafting.values()]
    times_ns = _time_interleaved([*parts, partial(alone.step, None)], num_runs)
    greedy_ns = dict(zip(drafting, times_ns, strict=False))
    sampled_ns = dict(zip(drafting, times_ns[len(drafting) :], strict=False))
    return DraftStepTimes(times_ns[-1], greedy_ns, sampled_ns)


def _write_model(folder: Path, shape: ModelShape) -> ModelConfig:
    words = first_word_id(shape.vocab_size)
    disable_progress_bar()
    build_model(Recipe(shape, 2, words, EOS_ID, 0, 2 * CONTEXT_LEN)).save_pretrained(folder)
    return read_config(folder)


class _Drafting:
    """A draft worker's stack and a pool for one session; drafts from ids [0, size)."""

    def __init__(self, config: ModelConfig, exit_layer: int, size: int) -> None:
        vocab = DraftVocab(config.vocab_size, "", 1.0, ("made up",), tuple(range(size)))
        self._exit_layer = exit_layer
        stack = LayerStack(
            config,
            num_layers=exit_layer,
            heads=Heads.DRAFT,
            draft_vocab=vocab if size < config.vocab_size else None,
        )
        layout = pool_layout(stack, 2 * CONTEXT_LEN, PAGE_SIZE)
        pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        self._table = PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)
        self._runner = StackDraftRunner(stack, pool)

    def step(self, sampling: SamplingParams | None) -> None:
        """Run one draft step; without sampling a closing one, that has no head."""
        wish = None if sampling is None else HeadWish(sampling, CONTEXT_LEN + 1, 0, ())
        row = DraftRow(self._table, TokenId(5), CONTEXT_LEN, self._exit_layer, 0, 0, wish)
        self._runner.step([row])


def _time_interleaved(parts: list[Callable[[], None]], num_runs: int) -> list[float]:
    samples: list[list[int]] = [[] for _ in parts]
    with torch.inference_mode():
        for run_index in range(NUM_WARM_UPS + num_runs):
            for part, times_ns in zip(parts, samples, strict=True):
                started_ns = time.perf_counter_ns()
                part()
                if run_index >= NUM_WARM_UPS:
                    times_ns.append(time.perf_counter_ns() - started_ns)
    return [float(median(times_ns)) for times_ns in samples]
