"""Finds a gateway for a command: the one named, a running local one, or a stack of its own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from shared.errors import Unauthenticated, WorkerLost
from shortstack.access import KEY, KEY_FILE, Access, read_access
from shortstack.checkpoint import require_model_dir
from shortstack.client import Client
from shortstack.errors import CommandError, UsageError
from shortstack.health import GATEWAY_SERVICE, is_serving
from shortstack.plan import StackConfig
from shortstack.progress import StartProgress
from shortstack.stack import Stack

LOCAL_GATEWAY = "127.0.0.1:50051"
TARGET_VARIABLE = "SHORTSTACK_TARGET"
LOCAL_PROBE_TIMEOUT_S = 0.5
TARGET_PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Destination:
    """What the user said about where to run; at most one of the two."""

    target: str | None = None
    model: Path | None = None
    # Options; what they leave open, the environment may say.
    api_key: str | None = None
    ca: str | None = None

    @property
    def access(self) -> Access:
        """Key and TLS for the gateway."""
        return read_access(os.environ, api_key=self.api_key, ca=self.ca)


@asynccontextmanager
async def connected(destination: Destination, console: Console) -> AsyncIterator[Client]:
    """Open a client to the gateway that the destination means.

    In order: the target given, SHORTSTACK_TARGET, a gateway at the default address, a local stack
    for as long as the context lasts. A model directory always means a local stack.

    Raises:
        UsageError: both were given, or there is no such model directory.
        CommandError: no gateway answers at the target.
        StackError: the local stack did not come up.
    """
    if destination.target and destination.model:
        raise UsageError("--target and --model exclude each other: a target has its own model")
    target = await find_gateway(destination)
    if target:
        async with Client(target, destination.access) as client:
            yield client
        return
    model = require_model_dir(destination.model)
    with StartProgress(console) as progress:
        stack = Stack(StackConfig(model=model, access=destination.access), progress.observe)
        await stack.start()
    try:
        async with Client(stack.target, destination.access) as client:
            yield client
    finally:
        await stack.stop()


async def find_gateway(destination: Destination) -> str:
    """Return the target of a gateway that answers; empty when a stack is to be brought up."""
    if destination.model:
        return ""
    target = destination.target or os.environ.get(TARGET_VARIABLE, "")
    if target:
        await require_gateway(target, destination.access)
        return target
    tls = destination.access.tls
    if await is_serving(LOCAL_GATEWAY, GATEWAY_SERVICE, LOCAL_PROBE_TIMEOUT_S, tls):
        return LOCAL_GATEWAY
    return ""


async def require_gateway(target: str, access: Access | None = None) -> None:
    """Make sure that a gateway can be reached.

    Raises:
        CommandError: nobody answers there, or it wants another API key.
    """
    async with Client(target, access) as client:
        try:
            await client.models(timeout_s=TARGET_PROBE_TIMEOUT_S)
        except WorkerLost as error:
            raise CommandError(f"no gateway answers at {target}: {error.message}") from None
        except Unauthenticated as error:
            raise CommandError(
                f"{target}: {error.message} (--api-key, {KEY} or {KEY_FILE})"
            ) from None
