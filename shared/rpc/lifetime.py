"""The life of a service's process: what every `main.py` does around its own objects.

Signals become one event; the start line and load progress are log lines that a runner can follow.
"""

import asyncio
import gc
import logging
import signal
import sys
import time
from typing import NoReturn

log = logging.getLogger(__name__)


class ShutdownSignal:
    """Set by SIGTERM, SIGINT or a fatal error of a worker thread."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.error: BaseException | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._event.set)

    def fail(self, error: BaseException) -> None:
        """End the process with an error; may be called from any thread."""
        self.error = error
        self._loop.call_soon_threadsafe(self._event.set)

    def request(self) -> None:
        """End the process in good order; called in the event loop."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the process should end."""
        await self._event.wait()


class ProgressLog:
    """Logs progress as `event: progress` lines, a few per second at most."""

    def __init__(self) -> None:
        self._last_s = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` parts of a stage are done."""
        now_s = time.monotonic()
        if done < total and now_s - self._last_s < 0.2:
            return
        self._last_s = now_s
        log.info("progress", extra={"stage": stage, "done": done, "total": total})


def keep_what_is_loaded() -> None:
    """Let no collection of garbage look again at what has been loaded so far.

    Modules and weights live as long as the process: to look through their many objects holds up
    what is served now and then, and takes most of the time that a process needs to end.
    """
    gc.freeze()


def refuse_to_start(service: str, reason: str) -> NoReturn:
    """Say why a service does not start, one fault per line, and end with status 2."""
    print(f"{service} cannot start:", file=sys.stderr)
    for line in reason.splitlines():
        print(f"  {line}", file=sys.stderr)
    sys.exit(2)
