"""What a stack holds when nobody asks for anything: compared before and after a drill.

Pages, sessions and descriptors are counted as under hostile calls; here segments of shared memory
and processes are added, as workers were killed.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from shared.errors import ShortstackError
from shortstack.bench.hostile.remains import losses, num_fds
from shortstack.bench.serve.processes import segments_of
from shortstack.stack import Stack

SETTLE_TIMEOUT_S, POLL_S = 30.0, 0.2


@dataclass(frozen=True, slots=True)
class Holdings:
    """What was held at one moment."""

    num_fds: Mapping[str, int]
    segments: frozenset[str]
    num_processes: int


def held_now(stack: Stack) -> Holdings:
    """Look at the processes of a stack."""
    segments = (segments_of(child.pid) for child in stack.children.values())
    num_processes = len(psutil.Process().children(recursive=True))
    return Holdings(num_fds(stack), frozenset().union(*segments), num_processes)


def more_held(before: Holdings, now: Holdings, existing: frozenset[str]) -> list[str]:
    """Return segments that nobody maps any more, and processes that there were not. Pure.

    existing: of the segments before, those whose files are still there.
    """
    left = sorted(existing - now.segments)
    lines = [f"{path} is left behind" for path in left]
    if len(now.segments) > len(before.segments):
        lines.append(f"{len(now.segments) - len(before.segments)} more segments of shared memory")
    if now.num_processes > before.num_processes:
        lines.append(f"{now.num_processes - before.num_processes} more processes")
    return lines


async def leaks_since(before: Holdings, stack: Stack) -> list[str]:
    """Return what is held for good; what has just ended is given time to let go."""
    deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
    while (lines := await _held_since(before, stack)) and time.monotonic() < deadline_s:
        await asyncio.sleep(POLL_S)
    return lines


async def _held_since(before: Holdings, stack: Stack) -> list[str]:
    try:
        lines = await losses(stack, dict(before.num_fds))
    except ShortstackError as error:
        return [f"a cell does not tell its pages: {error.message}"]
    existing = frozenset(path for path in before.segments if Path(path).exists())
    return lines + more_held(before, held_now(stack), existing)
