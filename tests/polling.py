"""Waiting in tests: for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from time import monotonic


async def poll_until(
    condition: Callable[[], object] | Callable[[], Awaitable[object]],
    timeout_s: float = 10.0,
    period_s: float = 0.01,
) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    deadline = monotonic() + timeout_s
    while True:
        holds = condition()
        if isawaitable(holds):
            holds = await holds
        if holds:
            return
        if monotonic() > deadline:
            raise TimeoutError(f"no {getattr(condition, '__name__', condition)} in {timeout_s} s")
        await asyncio.sleep(period_s)
