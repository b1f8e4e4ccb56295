"""Runs a command's coroutine so that Ctrl-C, SIGTERM and SIGHUP unwind it in order."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from shortstack.errors import Stopped

ResultT = TypeVar("ResultT")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_command(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end.

    Raises:
        Stopped: a stop signal came, and the coroutine was cancelled by it.
    """
    return asyncio.run(_run(main))


async def _run(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    task = asyncio.ensure_future(main)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        # The first signal unwinds; more of them must not interrupt the cleaning up.
        if not received:
            received.append(number)
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        # Who started us with nohup or in the background wants these to pass us by.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise
