"""The stack of a drill, what stands between its parts, and how it is doing.

    clients ---+--------------> gateway -> verify worker -> link relay -> draft worker
               +- front relay -'

Every other client comes through the front relay. Both relays pass everything on until a strike
makes them do otherwise. Draft workers are asked past the relays what they have done.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as stubs
from shared.rpc.channel import open_channel, translated_errors
from shortstack.children import Child
from shortstack.client import Client
from shortstack.drill.relay import Relay
from shortstack.errors import CommandError
from shortstack.health import GATEWAY_SERVICE, VERIFY_SERVICE, is_serving, verify_info
from shortstack.plan import CellPlan, StackConfig
from shortstack.redis_server import answers, socket_path
from shortstack.stack import Observer, Stack

DRAFT_SERVICE = "shortstack.v1.DraftService"
LINK_NAME = "link.sock"
POLL_S = 0.05
INFO_TIMEOUT_S = 2.0
# A worker loads its model, on a machine that may have two cores and is under load.
BACK_TIMEOUT_S = 120.0
# Slow readers are cut off soon, so that a drill need not wait for it.
ENVIRON = {"SHORTSTACK_GATEWAY__SLOW_READER_TIMEOUT_MS": "3000"}


class Stand:
    """A stack under drill; `open_stand` makes one."""

    def __init__(self, stack: Stack, clients: list[Client]) -> None:
        self.stack = stack
        self.clients = clients
        self.front: Relay | None = None
        self.links: list[Relay] = []
        # (child, event) of every line logged since `forget_events`, and the child's own clock.
        self.events: list[tuple[str, str]] = []
        self.clocks: dict[str, str] = {}

    def observe(self, name: str, event: Mapping[str, Any]) -> None:
        """Take one log event of a child."""
        self.events.append((name, str(event.get("event"))))
        self.clocks[name] = str(event.get("ts", ""))

    def child(self, kind: str, cell_index: int | None = None) -> Child:
        """Return a process, of a cell where there is one in each."""
        return self.stack.children[kind if cell_index is None else f"{kind}-{cell_index}"]

    def cell(self, index: int) -> CellPlan:
        """Return a cell."""
        return self.stack.cells[index]

    def has_logged(self, kind: str, event: str) -> bool:
        """Whether a process, named by how its name begins, has logged an event."""
        self.stack.poll()
        return any(name.startswith(kind) and each == event for name, each in self.events)

    async def cell_info(self, index: int) -> pb.GetVerifyInfoResponse | None:
        """Ask a cell how it is doing; None while it does not answer."""
        with suppress(ShortstackError):
            return await verify_info(self.cell(index).verify_target, INFO_TIMEOUT_S)
        return None

    async def num_rounds(self, index: int) -> int | None:
        """Return the rounds that a cell's draft worker has drafted; None while it is silent."""
        with suppress(ShortstackError):
            async with open_channel(self.cell(index).draft_target) as channel:
                with translated_errors():
                    info = await stubs.DraftServiceStub(channel).GetDraftInfo(
                        pb.GetDraftInfoRequest(), timeout=INFO_TIMEOUT_S
                    )
                return int(info.num_rounds)
        return None

    async def is_drafting_past(self, index: int, num_rounds: int) -> bool:
        """Whether a cell has a draft worker, which has drafted more than so many rounds."""
        info = await self.cell_info(index)
        now = await self.num_rounds(index)
        return info is not None and info.num_draft_workers > 0 and (now or 0) > num_rounds

    async def wait_until_back(self) -> None:
        """Wait until every process answers for itself, whatever it thinks of the others.

        Raises:
            CommandError: one has ended or does not answer.
        """
        deadline_s = time.monotonic() + BACK_TIMEOUT_S
        while silent := await self._first_silent():
            if ended := self.stack.poll():
                raise CommandError(ended[0].describe_end())
            if time.monotonic() > deadline_s:
                raise CommandError(f"{silent} does not answer {BACK_TIMEOUT_S:g} s after a drill")
            await asyncio.sleep(POLL_S)

    async def _first_silent(self) -> str:
        for cell in self.stack.cells:
            if not await is_serving(cell.draft_target, DRAFT_SERVICE):
                return f"the draft worker of {cell.cell_id}"
            if not await is_serving(cell.verify_target, VERIFY_SERVICE):
                return f"the verify worker of {cell.cell_id}"
        if not await is_serving(self.stack.target, GATEWAY_SERVICE):
            return "the gateway"
        if "redis" in self.stack.children and not await _redis_answers(self.stack):
            return "redis"
        return ""


async def _redis_answers(stack: Stack) -> bool:
    try:
        async with asyncio.timeout(INFO_TIMEOUT_S):
            return await answers(socket_path(stack.runtime_dir))
    except TimeoutError:
        return False


@asynccontextmanager
async def open_stand(
    config: StackConfig, num_clients: int, observer: Observer
) -> AsyncIterator[Stand]:
    """Bring a stack up with relays in place, and its clients.

    Raises:
        StackError: the stack did not come up.
    """
    clients: list[Client] = []
    environ = ENVIRON | dict(config.environ)

    def observe(name: str, event: dict[str, Any]) -> None:
        stand.observe(name, event)
        observer(name, event)

    stack = Stack(replace(config, draft_link=LINK_NAME, environ=environ), observe)
    stand = Stand(stack, clients)
    async with AsyncExitStack() as contexts:
        await _start(stand, contexts)
        front = Relay(stack.runtime_dir / "front.sock", _socket_of(stack.target))
        stand.front = await contexts.enter_async_context(front)
        targets = (stack.target, front.target)
        for place in range(num_clients):
            client = Client(targets[place % len(targets)])
            clients.append(await contexts.enter_async_context(client))
        yield stand


async def _start(stand: Stand, contexts: AsyncExitStack) -> None:
    """Start the stack; the relays between workers must be there before it can be ready."""
    stack = stand.stack
    contexts.push_async_callback(stack.stop)
    starting = asyncio.create_task(stack.start())
    contexts.callback(starting.cancel)
    while len(stack.cells) < stack.config.num_cells and not starting.done():
        await asyncio.sleep(POLL_S)
    for cell in stack.cells:
        own = _socket_of(cell.draft_target)
        relay = Relay(own.with_name(LINK_NAME), own)
        stand.links.append(await contexts.enter_async_context(relay))
    await starting


def _socket_of(target: str) -> Path:
    return Path(target.removeprefix("unix:"))
