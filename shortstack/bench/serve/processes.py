"""What the processes of a stack hold: memory, file descriptors, threads, shared segments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from shared.telemetry.machine import pss_bytes
from shortstack.stack import Stack

SEGMENT_PREFIX = "/dev/shm/shortstack-"


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """One process at one moment; pss_bytes is None where the system does not tell.

    segment_bytes is its share of the KV pool's pages that were touched so far, and part of the
    former: the pool was reserved at the start, so that this is no growth.
    """

    pss_bytes: int | None
    rss_bytes: int
    num_fds: int
    num_threads: int
    segment_bytes: int = 0

    @property
    def own_bytes(self) -> int:
        """Memory beside the pool: proportional, or resident where the system tells no more."""
        return self.rss_bytes if self.pss_bytes is None else self.pss_bytes - self.segment_bytes


@dataclass(frozen=True, slots=True)
class StackFigures:
    """All processes of a stack by name, and the shared memory that they map."""

    processes: Mapping[str, ProcessFigures]
    segments: frozenset[str]

    @property
    def memory_bytes(self) -> int:
        """Memory of all processes: proportional sizes, resident ones where there are none."""
        return sum(
            each.rss_bytes if each.pss_bytes is None else each.pss_bytes
            for each in self.processes.values()
        )


def figures_of_stack(stack: Stack) -> StackFigures:
    """Look at the processes of a stack now."""
    pids = {name: child.pid for name, child in stack.children.items()}
    processes = {name: figures_of_process(pid) for name, pid in pids.items()}
    segments = frozenset(path for pid in pids.values() for path in segments_of(pid))
    return StackFigures(processes, segments)


def figures_of_process(pid: int) -> ProcessFigures:
    """Look at one process now."""
    process = psutil.Process(pid)
    return ProcessFigures(
        pss_bytes([pid]),
        process.memory_info().rss,
        process.num_fds(),
        process.num_threads(),
        sum(entry.pss for entry in process.memory_maps() if entry.path.startswith(SEGMENT_PREFIX)),
    )


def segments_of(pid: int) -> set[str]:
    """Return the stacks' shared memory that a process maps."""
    maps = psutil.Process(pid).memory_maps()
    return {entry.path for entry in maps if entry.path.startswith(SEGMENT_PREFIX)}


def left_behind(segments: frozenset[str]) -> list[str]:
    """Return the segments that are still there, after their stack has ended."""
    return sorted(path for path in segments if Path(path).exists())
