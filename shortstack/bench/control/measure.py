"""What steps take on this machine, in this process: the truth of a replay. Imported late: torch.

Means of interleaved runs, without the extremes, at one context length, never derived from layer
counts. As on a stack, where each worker waits for the other: drafts and the passes that verify them
run behind a pause, steps of a draft in a row, and plain passes in a row. Between processes a step
takes more; that is measured on a real stack and given as hand-over, overhead and stretch.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from statistics import fmean, median

import torch

from shared.control.replay.step_times import StepTimes
from shared.ids import TokenId
from shared.model.chances import choose_drafts
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, Progress, no_progress
from shared.model.page_table import PageTable, num_pages_for
from shared.model.plain import PAGE_SIZE, pool_layout
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import RowChoice, choose
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent, SamplingParams

NUM_SESSIONS = (1, 2, 4, 8, 16)
NUM_ROWS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 18, 24, 32, 48, 64, 96, 144)
HEAD_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
NUM_WARM_UPS = 2
# Of a job's runs, those left out at either end: stalls of the machine are no part of the work.
EXTREMES = 0.1
# What a worker waits for the other, about.
PAUSE_S = 0.008
# Draft steps in a row that are timed, and behind so many of them they take as long as any.
NUM_STEPS = 10
NUM_FIRST_STEPS = 6
# Plain passes in a row, of which the last is timed.
NUM_IN_A_ROW = 3
# Draft steps before a pass, and rows of the pass before draft steps, at most.
NUM_OTHER = 8
CONTEXT_LEN = 192
GREEDY = SamplingParams()


class _Parts:
    """Runs parts of steps on made-up rows behind one context length."""

    def __init__(self, stack: LayerStack, num_sessions: int, max_rows: int) -> None:
        self._stack = stack
        self._context_len = min(CONTEXT_LEN, stack.config.max_context_len - max_rows)
        num_pages = num_pages_for(self._context_len + max_rows, PAGE_SIZE)
        layout = pool_layout(stack, num_sessions * num_pages * PAGE_SIZE, PAGE_SIZE)
        self._pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        for kv_2GSH in self._pool.layers:
            kv_2GSH.normal_()
        self._tables = [
            PageTable([Extent(index * num_pages, num_pages)], PAGE_SIZE)
            for index in range(num_sessions)
        ]

    def layers(self, end: int, num_sessions: int) -> torch.Tensor:
        """Run layers [0, end) on a row of each session; return x_end [R, D]."""
        rows = self._pack(num_sessions, 1)
        stack = self._stack
        return stack.run(stack.embed(rows), 0, end, rows, self._pool.layers)

    def draft(self, exit_layer: int, num_sessions: int, *, by_chance: bool) -> None:
        """Run a draft step of so many sessions."""
        read_at = [exit_layer] * num_sessions
        z_RD = self._stack.read_exits(self.layers(exit_layer, num_sessions), read_at)
        rows = [replace(row, wants_chance=by_chance) for row in self._wishes(num_sessions)]
        choose_drafts(self._stack, z_RD, rows, read_at)

    def draft_steps(self, exit_layer: int, num_steps: int) -> None:
        """Run draft steps of one session in a row."""
        for _ in range(num_steps):
            self.draft(exit_layer, 1, by_chance=False)

    def verify(self, start: int, num_sessions: int, rows_each: int) -> None:
        """Run layers [start, L), head and choice."""
        rows = self._pack(num_sessions, rows_each)
        stack = self._stack
        x_RD = stack.run(stack.embed(rows), start, stack.num_loaded, rows, self._pool.layers)
        self._choose(stack.head(x_RD))

    def head(self, num_rows: int) -> None:
        """Run norm, head and choice alone."""
        config = self._stack.config
        x_RD = torch.ones(num_rows, config.hidden_size, dtype=config.dtype)
        self._choose(self._stack.head(x_RD))

    def _choose(self, logits_RV: torch.Tensor) -> None:
        choose(logits_RV, self._wishes(logits_RV.shape[0]), with_confidences=True)

    def _wishes(self, num_rows: int) -> list[RowChoice]:
        return [RowChoice(GREEDY, self._context_len + index) for index in range(num_rows)]

    def _pack(self, num_sessions: int, rows_each: int) -> RowBatch:
        ids = [TokenId(index % self._stack.config.vocab_size) for index in range(rows_each)]
        sessions = [
            SessionRows(table, list(ids), self._context_len)
            for table in self._tables[:num_sessions]
        ]
        return pack_rows(sessions, self._stack.rope_table_P1C)


@dataclass(frozen=True)
class _Job:
    """What is timed, so many times in a row.

    other: what the other worker does before; the job waits for it as long, and finds the cache as
    it left it.
    """

    run: Callable[[], object]
    num_in_a_row: int
    other: Callable[[], object] | None = None

    def time(self) -> list[int]:
        """Run; return the times, ns."""
        if self.other is not None:
            self.other()
            time.sleep(PAUSE_S)
        times = []
        for _ in range(self.num_in_a_row):
            started_ns = time.perf_counter_ns()
            self.run()
            times.append(time.perf_counter_ns() - started_ns)
        return times


class StepMeter:
    """Measures what steps take, at once or by and by: what `run` adds up, `times` tells.

    Machines have moods: what is to be compared with something else is measured in turn with it.
    """

    def __init__(
        self,
        stack: LayerStack,
        exits: Sequence[int],
        num_sessions: Sequence[int] = NUM_SESSIONS,
        num_rows: Sequence[int] = NUM_ROWS,
    ) -> None:
        """Take a stack that is loaded to its last layer, with both heads.

        Args:
            stack: what is measured.
            exits: where drafts are made.
            num_sessions: of draft steps, 1 among them.
            num_rows: of passes, 1 and the largest number of sessions among them.
        """
        self._last = stack.config.num_layers
        self._exits = exits
        self._num_sessions = num_sessions
        most = max(num_sessions)
        # A short context leaves room for fewer rows of one session.
        self._num_rows = [n for n in num_rows if n <= max(most, stack.config.max_context_len // 2)]
        self._jobs = self._make_jobs(_Parts(stack, most, max(self._num_rows)))
        self._samples: dict[Hashable, list[list[int]]] = defaultdict(list)

    def _make_jobs(self, parts: _Parts) -> dict[Hashable, _Job]:
        jobs: dict[Hashable, _Job] = {}
        for e in self._exits:
            verifying = partial(parts.verify, e, 1, min(self._num_rows[-1], NUM_OTHER))
            for b in self._num_sessions:
                for name, run in (
                    ("draft", partial(parts.draft, e, b, by_chance=False)),
                    ("telling", partial(parts.draft, e, b, by_chance=True)),
                    ("closing", partial(parts.layers, e, b)),
                ):
                    jobs[name, e, b] = _Job(run, NUM_STEPS, verifying)
            for n in self._num_rows:
                drafting = partial(parts.draft_steps, e, min(n, NUM_OTHER))
                jobs["verify", e, n] = _Job(partial(parts.verify, e, 1, n), 1, drafting)
        for n in self._num_rows:
            jobs["plain", n] = _Job(partial(parts.verify, 0, 1, n), NUM_IN_A_ROW)
        most = max(self._num_sessions)
        jobs["apart"] = _Job(partial(parts.verify, 0, most, 1), NUM_IN_A_ROW)
        for n in HEAD_ROWS:
            jobs["head", n] = _Job(partial(parts.head, n), NUM_IN_A_ROW)
        return jobs

    @torch.inference_mode()
    def run(self, num_runs: int, progress: Progress = no_progress) -> None:
        """Run every job so often, by turns; before the first runs of all, some warm up."""
        num_warm_ups = 0 if self._samples else NUM_WARM_UPS
        for run_index in range(num_warm_ups + num_runs):
            for name, job in self._jobs.items():
                times = job.time()
                if run_index >= num_warm_ups:
                    self._samples[name].append(times)
            progress("measuring", run_index + 1, num_warm_ups + num_runs)

    def times(self) -> StepTimes:
        """Return the means of all runs, at least one, in order.

        In ns, without what steps take between processes. A machine that is slow by times is so in
        the mean too.
        """
        rows = {
            name: [middle_mean(each) for each in zip(*runs, strict=True)]
            for name, runs in self._samples.items()
        }
        ns = {name: median(steps[NUM_FIRST_STEPS:] or steps[-1:]) for name, steps in rows.items()}
        exits, sessions = self._exits, self._num_sessions
        more_ns = {
            b: median(ns["telling", e, b] - ns["draft", e, b] for e in exits) for b in sessions
        }
        most = max(sessions)
        apart_ns = (ns["apart"] - ns["plain", most]) / (max(1, most - 1) * self._last)
        verify = {(e, n): ns["verify", e, n] for e in exits for n in self._num_rows}
        whole = {(0, n): ns["plain", n] for n in self._num_rows}
        found = StepTimes(
            num_layers=self._last,
            draft_ns={(e, b): ns["draft", e, b] for e in exits for b in sessions},
            closing_ns={(e, b): ns["closing", e, b] for e in exits for b in sessions},
            verify_ns=verify | whole,
            head_ns={n: ns["head", n] for n in HEAD_ROWS},
            first_steps_ns={
                (e, step): max(0.0, rows["draft", e, 1][step - 1] - ns["draft", e, 1])
                for e in exits
                for step in range(1, NUM_FIRST_STEPS + 1)
            },
            chance_ns={b: max(0.0, more) for b, more in more_ns.items()},
            session_layer_ns=max(0.0, apart_ns),
        )
        return in_order(found)


def measure_step_times(
    stack: LayerStack,
    exits: Sequence[int],
    num_runs: int = 9,
    progress: Progress = no_progress,
) -> StepTimes:
    """Measure at once, see `StepMeter`."""
    meter = StepMeter(stack, exits)
    meter.run(num_runs, progress)
    return meter.times()


def middle_mean(values: Sequence[float]) -> float:
    """Return the mean of values, at least one, without the extremes of many."""
    num_left_out = int(EXTREMES * len(values))
    return fmean(sorted(values)[num_left_out : len(values) - num_left_out])


def never_falling(ns_by_size: Mapping[int, float]) -> dict[int, float]:
    """Return times none of which is less than that of a smaller size."""
    sizes = sorted(ns_by_size)
    return dict(zip(sizes, accumulate((ns_by_size[n] for n in sizes), max), strict=True))


def in_order(times: StepTimes) -> StepTimes:
    """Return times of which no more layers and no more rows take less: noise would have it so.

    Not moved onto lines over the layers, though these are all alike: the cache holds the first
    ones only.
    """
    closing, drafting = {}, {}
    for b in sorted({b for _, b in times.closing_ns}):
        for e, ns in never_falling({e: times.closing_ns[e, b] for e in times.exits}).items():
            closing[e, b] = ns
            drafting[e, b] = ns + max(0.0, times.draft_ns[e, b] - times.closing_ns[e, b])
    verify: dict[tuple[int, int], float] = {}
    above: dict[int, float] = {}
    for e in (*reversed(times.exits), 0):
        own = {n: ns for (entry, n), ns in times.verify_ns.items() if entry == e}
        # Plain passes follow each other, and may take less than those behind a pause.
        least = above if e else {}
        above = never_falling({n: max(ns, least.get(n, 0.0)) for n, ns in own.items()})
        verify |= {(e, n): ns for n, ns in above.items()}
    return replace(times, closing_ns=closing, draft_ns=drafting, verify_ns=verify)
