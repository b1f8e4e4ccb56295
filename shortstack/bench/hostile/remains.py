"""What a stack still holds although nobody asks for anything, and leaves when it is gone."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from shortstack.bench.serve.processes import figures_of_stack, left_behind
from shortstack.health import verify_info
from shortstack.stack import Stack

# Sockets of calls that have just ended, and what a service opens when it is first asked.
MAX_MORE_FDS = 12
SETTLE_S, POLL_S = 20.0, 0.2


def num_fds(stack: Stack) -> dict[str, int]:
    """Return how many files each process of a stack has open."""
    return {name: psutil.Process(child.pid).num_fds() for name, child in stack.children.items()}


async def losses(stack: Stack, fds_before: dict[str, int]) -> list[str]:
    """Return what is still held although nobody asks for anything."""
    lost = [f"{child.describe_end()}" for child in stack.poll()]
    for cell in stack.cells:
        info = await verify_info(cell.verify_target, timeout_s=5.0)
        pool = info.pool
        if pool.num_free + pool.num_cached != pool.num_pages:
            lost.append(f"{cell.cell_id}: {pool.num_used + pool.num_quarantined} pages held")
        if info.num_sessions:
            lost.append(f"{cell.cell_id}: {info.num_sessions} sessions run")
    for name, before in fds_before.items():
        more = num_fds(stack)[name] - before
        if more > MAX_MORE_FDS:
            lost.append(f"{name}: {more} more files open")
    return lost


async def settled_losses(
    stack: Stack, fds_before: dict[str, int], timeout_s: float = SETTLE_S
) -> list[str]:
    """Return what is held for good: what calls that have just ended hold, is given time."""
    lost: list[str] = []
    for _ in range(int(timeout_s / POLL_S)):
        lost = await losses(stack, fds_before)
        if not lost:
            break
        await asyncio.sleep(POLL_S)
    return lost


@dataclass(frozen=True, slots=True)
class Belongings:
    """Processes by id, with their names, and shared memory of a stack that is up."""

    processes: Mapping[int, str]
    segments: frozenset[str]

    @classmethod
    def of(cls, stack: Stack) -> "Belongings":
        """Look at a stack now."""
        processes = {
            each.pid: name
            for name, child in stack.children.items()
            for each in (psutil.Process(child.pid), *psutil.Process(child.pid).children())
        }
        return cls(processes, figures_of_stack(stack).segments)

    def left(self) -> list[str]:
        """Return what is still there after the stack has ended."""
        still = [f"{name}: process {pid} runs" for pid, name in self.processes.items() if runs(pid)]
        return still + [f"{path} is left" for path in left_behind(self.segments)]


def runs(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
