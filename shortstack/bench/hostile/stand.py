"""Sends hostile calls to the gRPC ports of a stack; tells how each ended."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc

from shared.rpc.channel import open_channel
from shortstack.bench.hostile.attacks import SERVICES, Attack, Attacker
from shortstack.stack import Stack

# (method, name of the status that a call ended with) -> calls.
Tally = Counter[tuple[str, str]]

BUGS = ("INTERNAL", "UNKNOWN")
# Our library's word, not the server's, which had ended the call before all was written.
LOST_WRITE = "Internal error from Core"
NUM_AT_A_TIME = 8


async def send(channel: grpc.aio.Channel, attack: Attack, metadata: Any = ()) -> str:
    """Make a call; return the name of the status that it ended with."""
    method = SERVICES[attack.service].methods_by_name[attack.method]
    streams = (method.client_streaming, method.server_streaming)
    make = getattr(channel, "_".join("stream" if each else "unary" for each in streams))
    request = () if method.client_streaming else (attack.payloads[0],)
    call = make(attack.path)(*request, timeout=attack.timeout_s, metadata=metadata)
    if attack.is_cancelled:
        call.cancel()
    # What it ended with, the code says.
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
        if method.client_streaming:
            await _write(call, attack)
        if method.server_streaming:
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    if await call.details() == LOST_WRITE:
        return "ENDED_EARLY"
    return str((await call.code()).name)


async def _write(call: Any, attack: Attack) -> None:
    for payload in attack.payloads:
        await call.write(payload)
    if attack.closes:
        await call.done_writing()


async def attack_stack(
    targets: dict[str, str],
    num: int,
    seed: int,
    metadata: Any = (),
    on_call: Callable[[], None] = lambda: None,
) -> Tally:
    """Send attacks to the ports of the services; return how often each method ended how."""
    attacker = Attacker(seed)
    tally: Tally = Counter()
    async with AsyncExitStack() as stack:
        channels = {
            service: await stack.enter_async_context(open_channel(target))
            for service, target in targets.items()
        }
        for first in range(0, num, NUM_AT_A_TIME):
            attacks = [attacker.make() for _ in range(min(NUM_AT_A_TIME, num - first))]
            codes = await asyncio.gather(
                *(send(channels[each.service], each, metadata) for each in attacks)
            )
            for each, code in zip(attacks, codes, strict=True):
                tally[f"{each.service}.{each.method}", code] += 1
                on_call()
    return tally


def targets_of(stack: Stack) -> dict[str, str]:
    """Return where a stack's first cell and its gateway listen."""
    cell = stack.cells[0]
    return {
        "GatewayService": stack.target,
        "VerifyService": cell.verify_target,
        "DraftService": cell.draft_target,
    }


def bugs_in(tally: Tally) -> list[str]:
    """Return the calls that ended as none may."""
    return [f"{num} x {method}: {code}" for (method, code), num in tally.items() if code in BUGS]
