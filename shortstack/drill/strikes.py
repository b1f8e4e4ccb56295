"""How each fault is done and undone. A strike returns when its fault is no more.

Whatever ends a strike, the fault is undone: stopped processes go on, killed ones are started anew,
relays pass everything on. A strike tells what it saw that clients do not, and broken promises.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shortstack.drill import small_shm
from shortstack.drill.clock import is_ahead, set_clock
from shortstack.drill.meddler import Meddler
from shortstack.drill.plan import Strike
from shortstack.drill.relay import Relay
from shortstack.drill.slow_clients import SlowClients
from shortstack.drill.stand import POLL_S, Stand

END_TIMEOUT_S = 30.0
REFUSE_TIMEOUT_S = 90.0
# Until the buffers on the way are full, on a machine that is busy, and then the gateway's patience.
SLOW_TIMEOUT_S = 90.0
CUT_PERIOD_S = 0.7
GARBLE_RATE = 0.2
JUMP_S = 3600
# What a segment file of a small model does not fit in, but everything else does.
SMALL_SHM_BYTES = 64 * 1024


@dataclass(slots=True)
class Seen:
    """What a strike saw."""

    notes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


StrikeFunction = Callable[[Stand, Strike, Seen], Awaitable[None]]


@asynccontextmanager
async def killed(stand: Stand, name: str) -> AsyncIterator[None]:
    """Kill a process; start it again in the end."""
    child = stand.stack.children[name]
    child.send(signal.SIGKILL)
    await wait_for(lambda: child.exit_status is not None, END_TIMEOUT_S)
    try:
        yield
    finally:
        await end(stand, name)
        stand.stack.restart(name, child.plan)


async def end(stand: Stand, name: str) -> None:
    """Kill a process unless it has ended."""
    child = stand.stack.children[name]
    child.send(signal.SIGKILL)
    await wait_for(lambda: child.exit_status is not None, END_TIMEOUT_S)


@asynccontextmanager
async def stopped(stand: Stand, name: str) -> AsyncIterator[None]:
    """Stop a process; let it go on in the end."""
    child = stand.stack.children[name]
    child.send(signal.SIGSTOP)
    try:
        yield
    finally:
        child.send(signal.SIGCONT)


async def wait_for(holds: Callable[[], bool], timeout_s: float) -> bool:
    """Wait for a condition; return whether it came to hold in time."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(POLL_S)
    return True


def killing(kind: str, *, of_cell: bool) -> StrikeFunction:
    """Return a strike that kills a process, and starts it again after a while."""

    async def strike(stand: Stand, plan: Strike, seen: Seen) -> None:
        async with killed(stand, _name(kind, plan, of_cell)):
            await asyncio.sleep(plan.hold_s)

    return strike


def stopping(kind: str, *, of_cell: bool) -> StrikeFunction:
    """Return a strike that stops a process for a while."""

    async def strike(stand: Stand, plan: Strike, seen: Seen) -> None:
        async with stopped(stand, _name(kind, plan, of_cell)):
            await asyncio.sleep(plan.hold_s)

    return strike


def _name(kind: str, plan: Strike, of_cell: bool) -> str:
    return f"{kind}-{plan.cell_index}" if of_cell else kind


async def fill_shm(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Start a verify worker where /dev/shm is too small; it must say so and end."""
    await small_shm.require()
    name = f"verify-{plan.cell_index}"
    async with killed(stand, name):
        original = stand.stack.children[name].plan
        stand.stack.restart(name, small_shm.within(original, SMALL_SHM_BYTES))
        child = stand.stack.children[name]
        if not await wait_for(lambda: child.exit_status is not None, REFUSE_TIMEOUT_S):
            seen.broken.append("the verify worker did not refuse to start")
            return
        said = child.tail()
        seen.notes.append(f"ended with status {child.exit_status}")
        if "bytes free" not in said:
            seen.broken.append(f"the refusal lacks the numbers: {said[-300:]}")
        # Where only this one is, it is missed for as long as the fault lasts.
        await asyncio.sleep(plan.hold_s)


async def part_shm(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Start a draft worker that sees another /dev/shm; its cell must do without."""
    await small_shm.require()
    name = f"draft-{plan.cell_index}"
    async with killed(stand, name):
        original = stand.stack.children[name].plan
        stand.stack.restart(name, small_shm.within(original, SMALL_SHM_BYTES))
        if not await wait_for(lambda: stand.has_logged("verify", "attach failed"), END_TIMEOUT_S):
            return  # what is missing in the log is told from there
        await asyncio.sleep(plan.hold_s)
        info = await stand.cell_info(plan.cell_index)
        if info is None or info.num_draft_workers:
            seen.broken.append("a draft worker of other memory is attached")


async def read_slowly(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Let clients stop reading; the gateway must let go of them."""
    async with SlowClients(stand.stack.target, plan.seed) as clients:
        await clients.start()
        await wait_for(lambda: stand.has_logged("gateway", "slow reader cut off"), SLOW_TIMEOUT_S)
        await asyncio.sleep(plan.hold_s)
        statuses = await clients.read_to_the_end()
    seen.notes.append(f"slow clients ended with {', '.join(statuses)}")


async def cut_clients(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Cut the connections of every other client in turn, and close them on one side."""
    front = stand.front
    assert front is not None, "a stand that is open has its front relay"
    for turn in range(max(2, int(plan.hold_s / (2 * CUT_PERIOD_S)))):
        (front.cut if turn % 2 else front.close_half)()
        await asyncio.sleep(2 * CUT_PERIOD_S)


async def cut_pair(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Cut the stream between the workers again and again."""
    link = stand.links[plan.cell_index]
    for _ in range(max(1, int(plan.hold_s / CUT_PERIOD_S))):
        link.cut()
        await asyncio.sleep(CUT_PERIOD_S)


async def hold_pair(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Let nothing through between the workers for a while."""
    link = stand.links[plan.cell_index]
    link.hold()
    try:
        await asyncio.sleep(plan.hold_s)
    finally:
        link.let_go()


async def garble_pair(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Flip bits in what the draft worker says."""
    link = stand.links[plan.cell_index]
    link.seed(plan.seed)
    before, link.garble_rate = link.num_garbled, GARBLE_RATE
    try:
        await asyncio.sleep(plan.hold_s)
    finally:
        link.garble_rate = 0.0
    seen.notes.append(f"{link.num_garbled - before} bytes garbled")


async def meddle(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Put one between the workers who changes what is said."""
    link = stand.links[plan.cell_index]
    own = link.upstream
    target = stand.cell(plan.cell_index).draft_target
    async with Meddler(own.with_name("meddler.sock"), target, plan.seed) as meddler:
        try:
            _lead(link, meddler)
            await asyncio.sleep(plan.hold_s)
        finally:
            link.upstream = own
            link.cut()
        seen.notes.append(f"{meddler.num_meddled} answers changed")


def _lead(link: Relay, meddler: Meddler) -> None:
    link.upstream = meddler.listen
    link.cut()


async def jump(stand: Stand, plan: Strike, seen: Seen) -> None:
    """Set the wall clock of all processes ahead, and back."""
    set_clock(stand.stack.config.environ, JUMP_S)
    try:
        await asyncio.sleep(plan.hold_s)
        # Its clock is seen in its log, where every request that ends has a line.
        if not await wait_for(lambda: _is_ahead(stand), END_TIMEOUT_S):
            seen.broken.append(f"the gateway's clock did not jump: {stand.clocks.get('gateway')}")
    finally:
        set_clock(stand.stack.config.environ, 0)


def _is_ahead(stand: Stand) -> bool:
    stand.stack.poll()
    return is_ahead(stand.clocks.get("gateway", ""), JUMP_S)


STRIKES: dict[str, StrikeFunction] = {
    "draft-killed": killing("draft", of_cell=True),
    "draft-stopped": stopping("draft", of_cell=True),
    "verify-killed": killing("verify", of_cell=True),
    "verify-stopped": stopping("verify", of_cell=True),
    "gateway-killed": killing("gateway", of_cell=False),
    "redis-killed": killing("redis", of_cell=False),
    "redis-stopped": stopping("redis", of_cell=False),
    "shm-full": fill_shm,
    "shm-foreign": part_shm,
    "slow-client": read_slowly,
    "client-cut": cut_clients,
    "pair-cut": cut_pair,
    "pair-held": hold_pair,
    "pair-garbled": garble_pair,
    "draft-malformed": meddle,
    "clock-jump": jump,
}
