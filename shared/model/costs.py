"""Measured times of a layer stack on this machine: what a cost model is fed with.

Times are medians of interleaved runs in this process, in ns, for one session at a given context
length: never derived from layer counts. Hand-over between processes is measured elsewhere.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch

from shared.ids import TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, Progress, no_progress
from shared.model.page_table import PageTable
from shared.model.plain import PAGE_SIZE, pool_layout
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import RowChoice, choose
from shared.model.segment import LocalSegment
from shared.speculation.cost_model import CostTable
from shared.speculation.vocabulary import Extent, SamplingParams

Head = Callable[[torch.Tensor], torch.Tensor]
NUM_WARM_UPS = 3


@dataclass(frozen=True)
class MeasuredCosts:
    """Times in ns.

    plain_ns: layers [0, L), head and choice, one row.
    draft_step_ns: by exit layer E: layers [0, E), the exit's adapter and the head that drafts are
        made by (int8, or that of a draft vocabulary), where the stack has them, and choice, one
        row.
    closing_step_ns: by exit layer E: layers [0, E) alone, one row.
    verify_ns: by (E, rows): layers [E, L), head and choice of all rows.
    """

    plain_ns: float
    draft_step_ns: dict[int, float]
    closing_step_ns: dict[int, float]
    verify_ns: dict[tuple[int, int], float]

    def to_table(self, hand_over_ns: float = 0.0) -> CostTable:
        """Return what the cost model takes, with the time per round that is not computing."""
        return CostTable(
            draft_step_ns=self.draft_step_ns,
            closing_step_ns=self.closing_step_ns,
            verify_ns=self.verify_ns,
            plain_step_ns=self.plain_ns,
            hand_over_ns=hand_over_ns,
        )


class _Bench:
    """Runs parts of the stack on made-up rows at one context length."""

    def __init__(self, stack: LayerStack, context_len: int) -> None:
        self._stack = stack
        self._context_len = context_len
        layout = pool_layout(stack, context_len + 64, PAGE_SIZE)
        self._pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        self._table = PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)

    def run(self, start: int, end: int, num_rows: int, head: Head | None) -> None:
        """Run layers [start, end) on rows behind the context, then a head and the choice."""
        rows = self._rows(num_rows)
        x_RD = self._stack.embed(rows)
        x_RD = self._stack.run(x_RD, start, end, rows, self._pool.layers)
        if head is not None:
            greedy = SamplingParams()
            wishes = [RowChoice(greedy, self._context_len + i + 1) for i in range(num_rows)]
            is_draft = head == self._stack.draft_head
            subset = self._stack.draft_subset if is_draft else None
            if is_draft:
                x_RD = self._stack.adapt(x_RD, [end] * num_rows)
            choose(head(x_RD), wishes, subset=subset, with_confidences=is_draft)
        self._stack.synchronize()

    def _rows(self, num_rows: int) -> RowBatch:
        ids = [TokenId(1 + i % (self._stack.config.vocab_size - 1)) for i in range(num_rows)]
        session = SessionRows(self._table, list(ids), self._context_len)
        return pack_rows([session], self._stack.rope_table_P1C)


def measure_costs(
    stack: LayerStack,
    exit_layers: Sequence[int],
    max_draft_len: int,
    context_len: int = 256,
    num_runs: int = 15,
    progress: Progress = no_progress,
) -> MeasuredCosts:
    """Measure one session's steps; the stack must be loaded to its last layer.

    Args:
        stack: the whole model, with heads, draft vocabulary and exit adapters of its workers.
        exit_layers: exits E, each in [1, L-1].
        max_draft_len: verification is measured for 1 to max_draft_len + 1 rows.
        context_len: positions before the rows; with the rows within the model's context.
        num_runs: timed runs of each part, interleaved.
        progress: told after every run of all parts.
    """
    config = stack.config
    context_len = min(context_len, config.max_context_len - max_draft_len - 2)
    bench = _Bench(stack, context_len)
    last = config.num_layers
    parts: dict[Hashable, Callable[[], None]] = {
        "plain": partial(bench.run, 0, last, 1, stack.head)
    }
    for exit_layer in exit_layers:
        parts["draft", exit_layer] = partial(bench.run, 0, exit_layer, 1, stack.draft_head)
        parts["closing", exit_layer] = partial(bench.run, 0, exit_layer, 1, None)
        for num_rows in range(1, max_draft_len + 2):
            verify = partial(bench.run, exit_layer, last, num_rows, stack.head)
            parts["verify", exit_layer, num_rows] = verify
    with torch.inference_mode():
        times_ns = _time_interleaved(parts, num_runs, progress)
    return MeasuredCosts(
        plain_ns=times_ns["plain"],
        draft_step_ns={e: times_ns["draft", e] for e in exit_layers},
        closing_step_ns={e: times_ns["closing", e] for e in exit_layers},
        verify_ns={
            (e, rows): times_ns["verify", e, rows]
            for e in exit_layers
            for rows in range(1, max_draft_len + 2)
        },
    )


def _time_interleaved(
    parts: dict[Hashable, Callable[[], None]], num_runs: int, progress: Progress
) -> dict[Hashable, float]:
    samples: dict[Hashable, list[int]] = {name: [] for name in parts}
    for run_index in range(NUM_WARM_UPS + num_runs):
        for name, part in parts.items():
            started_ns = time.perf_counter_ns()
            part()
            if run_index >= NUM_WARM_UPS:
                samples[name].append(time.perf_counter_ns() - started_ns)
        progress("measuring", run_index + 1, NUM_WARM_UPS + num_runs)
    return {name: float(median(values)) for name, values in samples.items()}
