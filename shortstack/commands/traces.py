"""`shortstack traces`: show traces of requests as they come, without a tracing backend.

shortstack traces                                               in one terminal
shortstack up --otlp 127.0.0.1:4317 --sampling-ratio 1          in another
"""

import asyncio
import time
from typing import Annotated

import typer

from shared.errors import Internal
from shared.telemetry.spans import ROOTS
from shortstack.errors import CommandError
from shortstack.running import run_command
from shortstack.traces.gathering import Gathering
from shortstack.traces.receiver import SpanReceiver
from shortstack.traces.view import lines_of

OTLP_ADDRESS = "127.0.0.1:4317"
LOOK_S = 0.25


def command(
    listen: Annotated[
        str, typer.Option(help="host:port that the services send traces to.")
    ] = OTLP_ADDRESS,
) -> None:
    """Take traces over OTLP and print each as a tree once it is whole; Ctrl-C ends it."""
    run_command(show(listen))


async def show(listen: str) -> None:
    """Print traces until cancelled.

    Raises:
        CommandError: the address cannot be bound.
    """
    gathering = Gathering({spec.name for spec in ROOTS})
    try:
        receiver = SpanReceiver(listen, lambda spans: gathering.take(spans, time.monotonic()))
    except Internal as error:
        raise CommandError(error.message) from None
    async with receiver:
        print(f"waiting for traces on {receiver.address}", flush=True)
        while True:
            for trace in gathering.pop_whole(time.monotonic()):
                print("\n".join(lines_of(trace)), flush=True)
            await asyncio.sleep(LOOK_S)
