"""Restarts the workers of a stack one by one, so that requests go on.

A worker that is told to end finishes its sessions or hands them over to other cells; the next one
is told only when the last serves again. With a single cell there is nobody to hand over to:
requests wait for its drain and are refused until it is back.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence

from shortstack.children import Child
from shortstack.errors import StackError
from shortstack.stack import Stack

POLL_S = 0.1
# Behind the longest drain that a worker is configured for by default.
END_TIMEOUT_S = 45.0


def worker_names(stack: Stack) -> list[str]:
    """Return the verify and draft workers, cell by cell."""
    plans = (plan for cell in stack.cells for plan in (cell.verify, cell.draft))
    return [plan.name for plan in plans if plan is not None]


async def restart_workers(
    stack: Stack,
    names: Sequence[str],
    note: Callable[[str], None] = lambda line: None,
    end_timeout_s: float = END_TIMEOUT_S,
) -> None:
    """Restart workers in turn; `note` is told of each.

    Raises:
        StackError: a worker does not end in time, or a process of the stack died.
    """
    for name in names:
        note(f"{name}: restarting")
        await _end(stack.children[name], end_timeout_s)
        stack.restart(name)
        await stack.wait_until_ready()
        note(f"{name}: serves again")


async def _end(child: Child, timeout_s: float) -> None:
    child.send(signal.SIGTERM)
    deadline_s = time.monotonic() + timeout_s
    while child.exit_status is None:
        if time.monotonic() > deadline_s:
            raise StackError(f"{child.name} did not end within {timeout_s:g} s of SIGTERM")
        await asyncio.sleep(POLL_S)
