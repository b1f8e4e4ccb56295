"""A background task that does one thing over and over. Knows nothing of what it is."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class PeriodicTask:
    """Runs an action at once and then about every `period_ms`, until stopped.

    The time between runs is jittered: a fleet that lost a peer together must not come back to it
    together. An exception of the action is a bug, as expected failures are the action's to handle;
    it is logged with its trace and the task goes on.
    """

    def __init__(self, period_ms: int, action: Callable[[], Awaitable[object]]) -> None:
        """Take the action; nothing runs yet."""
        self._period_s = period_ms / 1000
        self._action = action
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if not begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, in the middle of the action where need be; may be started again."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        own = asyncio.current_task()
        # A library may take a cancellation for a timeout of its own: the action then ends as if
        # nothing had been, and who stops this would wait for ever.
        while self._task is own:
            try:
                await self._action()
            except Exception:
                log.exception("periodic task failed")
            if self._task is own:
                await asyncio.sleep(self._period_s * random.uniform(0.8, 1.0))
