"""The window: the span of time in which a load stands. Pure.

    closed loop   from when each of the first C requests has had its first token (or its end)
                  until the first client finds no more requests: C requests are under way all along
    open loop     from the arrival of the first request behind the first tenth until the last
                  arrival: requests keep coming

What comes before is ramp up, what comes after is tail; both run, neither counts. Where a load is
too short to stand at all, the window is the whole of it and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shortstack.bench.serve.result import Result

RAMP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span (start, end]; is_steady: the load stood in it."""

    start_ns: int
    end_ns: int
    is_steady: bool

    @property
    def length_s(self) -> float:
        """Length."""
        return (self.end_ns - self.start_ns) / 1e9

    def holds(self, time_ns: int) -> bool:
        """Return whether a moment lies in the window."""
        return self.start_ns < time_ns <= self.end_ns


@dataclass(frozen=True, slots=True)
class LoadRun:
    """A load that has been run: its results, its span, when it began to run dry.

    dry_ns: a closed loop's first client found no more requests; an open loop's last one arrived.
    """

    results: Sequence[Result]
    started_ns: int
    dry_ns: int
    ended_ns: int

    def whole(self) -> Window:
        """Return the span of everything."""
        return Window(self.started_ns, self.ended_ns, is_steady=False)


def closed_window(run: LoadRun, concurrency: int) -> Window:
    """Return the window of a closed loop."""
    first = sorted(run.results, key=lambda result: result.item.index)[:concurrency]
    if len(first) < concurrency:
        return run.whole()
    start_ns = max((*result.times_ns, result.ended_ns)[0] for result in first)
    return _window_or_whole(run, start_ns)


def open_window(run: LoadRun) -> Window:
    """Return the window of an open loop."""
    sent_ns = sorted(result.sent_ns for result in run.results)
    if not sent_ns:
        return run.whole()
    return _window_or_whole(run, sent_ns[int(len(sent_ns) * RAMP_SHARE)] - 1)


def _window_or_whole(run: LoadRun, start_ns: int) -> Window:
    is_there = start_ns < run.dry_ns
    return Window(start_ns, run.dry_ns, is_steady=True) if is_there else run.whole()
