"""What steps take on this machine, in this process: the truth of a replay. Imported late: torch.

Medians of interleaved runs at one context length, never derived from layer counts, then moved onto
lines over the layers as `shared.speculation.cost_fit` does. As on a stack, where each worker waits
for the other: drafts and the passes that verify them run behind a pause, steps of a draft in a row,
and plain passes in a row. Between processes a step takes more; that is measured on a real stack and
given as hand-over, overhead and stretch.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from statistics import median

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
from shared.speculation.cost_fit import MIN_EXITS, fit_line
from shared.speculation.vocabulary import Extent, SamplingParams

NUM_SESSIONS = (1, 2, 4, 8, 16)
NUM_ROWS = (1, 2, 3, 4, 5, 7, 9, 12, 16, 18, 24, 32, 48, 64, 96, 144)
HEAD_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
NUM_WARM_UPS = 2
# What a worker waits for the other, about.
PAUSE_S = 0.008
# Draft steps in a row that are timed, and behind so many of them they take as long as any.
NUM_STEPS = 10
NUM_FIRST_STEPS = 6
# Plain passes in a row, of which the last is timed.
NUM_IN_A_ROW = 3
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
class _Group:
    """Jobs that are timed alike: so many times in a row.

    other: what the other worker does before; the job waits for it as long, with its cache gone.
    """

    jobs: dict[Hashable, Callable[[], object]]
    num_in_a_row: int
    other: Callable[[], object] | None = None

    def run(self, job: Callable[[], object]) -> list[int]:
        """Run a job; return its times, ns."""
        if self.other is not None:
            self.other()
            time.sleep(PAUSE_S)
        times = []
        for _ in range(self.num_in_a_row):
            started_ns = time.perf_counter_ns()
            job()
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
        self._groups = self._make_groups(_Parts(stack, most, max(self._num_rows)))
        self._samples: dict[Hashable, list[list[int]]] = defaultdict(list)

    def _make_groups(self, parts: _Parts) -> Sequence[_Group]:
        phases: dict[Hashable, Callable[[], object]] = {}
        for e in self._exits:
            for b in self._num_sessions:
                phases["draft", e, b] = partial(parts.draft, e, b, by_chance=False)
                phases["telling", e, b] = partial(parts.draft, e, b, by_chance=True)
                phases["closing", e, b] = partial(parts.layers, e, b)
        # Nobody runs whole passes behind a pause; they hold the lines of those that verify.
        passes: dict[Hashable, Callable[[], object]] = {
            ("paused", entry, n): partial(parts.verify, entry, 1, n)
            for entry in (0, *self._exits)
            for n in self._num_rows
        }
        plain: dict[Hashable, Callable[[], object]] = {
            ("plain", n): partial(parts.verify, 0, 1, n) for n in self._num_rows
        }
        plain["apart"] = partial(parts.verify, 0, max(self._num_sessions), 1)
        for n in HEAD_ROWS:
            plain["head", n] = partial(parts.head, n)
        deepest = max(self._exits)
        return (
            _Group(
                phases, NUM_STEPS, partial(parts.verify, deepest, 1, min(self._num_rows[-1], 8))
            ),
            _Group(passes, 1, partial(parts.draft, deepest, 1, by_chance=False)),
            _Group(plain, NUM_IN_A_ROW),
        )

    @torch.inference_mode()
    def run(self, num_runs: int, progress: Progress = no_progress) -> None:
        """Run every job so often, by turns; some more runs before these warm up."""
        for run_index in range(NUM_WARM_UPS + num_runs):
            for group in self._groups:
                for name, job in group.jobs.items():
                    times = group.run(job)
                    if run_index >= NUM_WARM_UPS:
                        self._samples[name].append(times)
            progress("measuring", run_index + 1, NUM_WARM_UPS + num_runs)

    def times(self) -> StepTimes:
        """Return the medians of all runs, at least one, on lines over the layers.

        In ns, without what steps take between processes.
        """
        rows = {
            name: [float(median(each)) for each in zip(*runs, strict=True)]
            for name, runs in self._samples.items()
        }
        ns = {name: median(steps[NUM_FIRST_STEPS:] or steps[-1:]) for name, steps in rows.items()}
        exits, sessions = self._exits, self._num_sessions
        more_ns = {
            b: median(ns["telling", e, b] - ns["draft", e, b] for e in exits) for b in sessions
        }
        most = max(sessions)
        apart_ns = (ns["apart"] - ns["plain", most]) / (max(1, most - 1) * self._last)
        paused = {(e, n): ns["paused", e, n] for e in (0, *exits) for n in self._num_rows}
        found = StepTimes(
            num_layers=self._last,
            draft_ns={(e, b): ns["draft", e, b] for e in exits for b in sessions},
            closing_ns={(e, b): ns["closing", e, b] for e in exits for b in sessions},
            verify_ns=paused,
            head_ns={n: ns["head", n] for n in HEAD_ROWS},
            first_steps_ns={
                (e, step): max(0.0, rows["draft", e, 1][step - 1] - ns["draft", e, 1])
                for e in exits
                for step in range(1, NUM_FIRST_STEPS + 1)
            },
            chance_ns={b: max(0.0, more) for b, more in more_ns.items()},
            session_layer_ns=max(0.0, apart_ns),
        )
        smoothed = smooth(found)
        # Plain passes follow each other: they are on no line with those behind a pause.
        plain = never_falling({n: ns["plain", n] for n in self._num_rows})
        whole = {(0, n): value for n, value in plain.items()}
        return replace(smoothed, verify_ns={**smoothed.verify_ns, **whole})


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


def never_falling(ns_by_rows: Mapping[int, float]) -> dict[int, float]:
    """Return times none of which is less than that of fewer rows."""
    rows = sorted(ns_by_rows)
    return dict(zip(rows, accumulate((ns_by_rows[n] for n in rows), max), strict=True))


def smooth(times: StepTimes) -> StepTimes:
    """Move times onto lines over the layers, which are all alike, and make none fall with rows."""
    exits = times.exits
    if len(exits) < MIN_EXITS:
        return times
    closing, drafting = {}, {}
    verify: dict[tuple[int, int], float] = {}
    for b in sorted({b for _, b in times.closing_ns}):
        line = fit_line([(e, times.closing_ns[e, b]) for e in exits])
        head_ns = median(times.draft_ns[e, b] - times.closing_ns[e, b] for e in exits)
        for e in exits:
            closing[e, b] = line.at(e)
            drafting[e, b] = line.at(e) + max(0.0, head_ns)
    entries = sorted({e for e, _ in times.verify_ns})
    all_rows = sorted({n for _, n in times.verify_ns})
    lines = {n: fit_line([(e, times.verify_ns[e, n]) for e in entries]) for n in all_rows}
    for e in entries:
        own = never_falling({n: line.at(e) for n, line in lines.items()})
        verify |= {(e, n): ns for n, ns in own.items()}
    first: dict[tuple[int, int], float] = {}
    for step in sorted({step for _, step in times.first_steps_ns}):
        line = fit_line([(e, times.first_steps_ns[e, step]) for e in exits])
        first |= {(e, step): line.at(e) for e in exits}
    return replace(
        times, closing_ns=closing, draft_ns=drafting, verify_ns=verify, first_steps_ns=first
    )
