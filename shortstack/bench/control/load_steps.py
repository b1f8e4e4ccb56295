"""Load that rises and falls: 1 session, 16, 1 again, on texts that never run out. Pure but timed.

Phases last for virtual time, not for steps, so that a faster contender delivers more tokens in the
same time. Sessions come with a phase and leave with it; who ends is followed by another.
"""

import gc
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle

from shared.control.replay.cell import Controller, PlayedStep, ReplayCell, StepSpend
from shared.control.replay.controllers import StaticController
from shared.control.replay.texts import RecordedText
from shared.control.replay.yardsticks import static_arms
from shared.control.steps import SessionLoad, StepOutcome
from shared.speculation.vocabulary import Decision
from shortstack.bench.control.contenders import Contender, Setup

PHASES = (1, 16, 1)
# A phase lasts as long as so many plain steps of its sessions.
NUM_PLAIN_STEPS = 1500
# Of them, to find the best static setting at a load.
NUM_TRIED_STEPS = 100
NS_PER_MINUTE = 60e9
NS_PER_US = 1e3


@dataclass(frozen=True, slots=True)
class PhasePlay:
    """One phase: tokens of all sessions, ns, and how often drafting went on or off, probes apart.

    A step is one of drafting if any session drafts in it.

    decide_us: what each decision of the controller took of this thread, before drafts could be
        ordered; decide_wall_us: how long it took, with what other threads and processes took
        meanwhile.
    """

    num_sessions: int
    num_tokens: int
    ns: int
    num_switches: int
    decide_us: Sequence[float] = ()
    decide_wall_us: Sequence[float] = ()

    @property
    def tok_s(self) -> float:
        """Tokens per second of virtual time."""
        return self.num_tokens * 1e9 / self.ns

    @property
    def switches_per_minute(self) -> float:
        """Per minute of virtual time."""
        return self.num_switches * NS_PER_MINUTE / self.ns


def percentile(values: Sequence[float], share: float) -> float:
    """Return what this share of the values does not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass
class LoadRun:
    """A cell under changing load."""

    cell: ReplayCell
    texts: Iterator[RecordedText]
    _num_admitted: int = 0
    _was_drafting: bool | None = None

    def phase(self, num_sessions: int, ns: float) -> PhasePlay:
        """Hold the cell at so many sessions for so long."""
        started_ns, num_tokens, num_switches = self.cell.now_ns, 0, 0
        while self.cell.num_sessions > num_sessions:
            self.cell.drop()
        while self.cell.now_ns < started_ns + ns:
            while self.cell.num_sessions < num_sessions:
                self._num_admitted += 1
                self.cell.admit(f"s{self._num_admitted}", next(self.texts))
            step = self.cell.step()
            num_tokens += step.num_tokens
            if not _tells_no_mode(step):
                # The first mode of all is no switch.
                if self._was_drafting is not None:
                    num_switches += step.is_drafting != self._was_drafting
                self._was_drafting = step.is_drafting
        took_ns = self.cell.now_ns - started_ns
        return PhasePlay(num_sessions, num_tokens, took_ns, num_switches)


class TimedController:
    """Another controller, whose decisions are timed: of its thread, and by the wall."""

    def __init__(self, inner: Controller) -> None:
        """Take the controller; no decision was made yet."""
        self._inner = inner
        self.decide_us: list[float] = []
        self.decide_wall_us: list[float] = []

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        """Return the other's decisions."""
        started_ns, started_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        decisions = self._inner.decide(loads)
        self.decide_us.append((time.thread_time_ns() - started_cpu_ns) / NS_PER_US)
        self.decide_wall_us.append((time.perf_counter_ns() - started_ns) / NS_PER_US)
        return decisions

    def tune(self) -> None:
        """Pass it on."""
        self._inner.tune()

    def admit(self, key: str, text: RecordedText) -> None:
        """Pass it on."""
        self._inner.admit(key, text)

    def reads(self, key: str, decision: Decision) -> Collection[int]:
        """Pass it on."""
        return self._inner.reads(key, decision)

    def note_step(self, outcome: StepOutcome, spend: StepSpend) -> None:
        """Pass it on."""
        self._inner.note_step(outcome, spend)

    def forget(self, key: str) -> None:
        """Pass it on."""
        self._inner.forget(key)


def _tells_no_mode(step: PlayedStep) -> bool:
    """Whether a step was a trial, or a text was about to end and left no room for a draft."""
    return any(each.decision.reason in ("probe", "limit") for each in step.rounds)


def play_load(
    contender: Contender, texts: Sequence[RecordedText], num_steps: int = NUM_PLAIN_STEPS
) -> list[PhasePlay]:
    """Play the phases."""
    cell = contender.new_cell()
    timed = TimedController(cell.controller)
    cell.controller = timed
    run = LoadRun(cell, cycle(texts))
    phases = []
    with _own_garbage():
        for size in PHASES:
            timed.decide_us, timed.decide_wall_us = [], []
            phase = run.phase(size, num_steps * plain_step_ns(cell, size))
            phases.append(
                replace(phase, decide_us=timed.decide_us, decide_wall_us=timed.decide_wall_us)
            )
    return phases


@contextmanager
def _own_garbage() -> Iterator[None]:
    """Collect no more of what is there: looking through it takes long, and is no decision's own."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def plain_step_ns(cell: ReplayCell, num_sessions: int) -> float:
    """Return what a step takes in which nobody drafts."""
    return cell.times.pass_ns({0: num_sessions}, num_sessions) + cell.times.overhead_ns


class TableController(StaticController):
    """The best static setting by number of sessions: the last row whose load is reached."""

    def __init__(self, rows: Sequence[tuple[int, Decision]]) -> None:
        """Take (least number of sessions, setting), ascending, the first for one session."""
        super().__init__(rows[0][1])
        self._rows = rows

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        """Return the setting for so many."""
        arm = next(arm for least, arm in reversed(self._rows) if least <= len(loads))
        return [arm] * len(loads)


def best_arm_at(setup: Setup, texts: Sequence[RecordedText], num_sessions: int) -> Decision:
    """Return the static setting that delivers most at a load; off is one."""

    def speed(arm: Decision) -> float:
        cell = setup.cell(StaticController(arm), arm)
        run = LoadRun(cell, cycle(texts))
        ns = NUM_TRIED_STEPS * plain_step_ns(cell, num_sessions)
        return run.phase(num_sessions, ns).tok_s

    return max(static_arms(setup.exits), key=speed)


def table_contender(setup: Setup, texts: Sequence[RecordedText]) -> Contender:
    """Return the table by load, made with hindsight of these texts."""
    rows = [(size, best_arm_at(setup, texts, size)) for size in sorted(set(PHASES))]
    return Contender("table", lambda: setup.cell(TableController(rows), rows[0][1]))
