"""The local stack: Redis, draft workers, verify workers and a gateway as processes of this one.

Knows nothing of models or tokens. `start` returns when requests can be served and fails at once if
a process dies; `stop`, or leaving the context, takes everything down; nothing stays behind: no
process, socket, folder or shared memory, even if this process is killed (see `children`, `guard`).

    async with Stack(StackConfig(model=Path("models/shortstack-10m"))) as stack:
        async with Client(stack.target) as client:
            ...
"""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.errors import ShortstackError, Unauthenticated
from shortstack.access import KEY
from shortstack.children import Child, ChildPlan, Guard
from shortstack.client import Client
from shortstack.errors import StackError
from shortstack.guard import remove_orphaned_segments
from shortstack.health import GATEWAY_SERVICE, SPECULATION, VERIFY_SERVICE, is_serving
from shortstack.plan import (
    NO_REDIS,
    PREFIX,
    CellKind,
    CellPlan,
    StackConfig,
    base_environment,
    plan_cell,
    plan_gateway,
)
from shortstack.redis_server import answers, find_redis_server, plan_redis, redis_url, socket_path
from shortstack.runtime_dir import make_runtime_dir

POLL_S = 0.1
# The events that say addresses, with the ports filled in.
STARTED_EVENTS = ("listening", "serving")
Observer = Callable[[str, dict[str, Any]], None]


def _ignore(name: str, event: dict[str, Any]) -> None:
    """Observe nothing."""


class Stack:
    """A local stack; use it as an async context."""

    def __init__(self, config: StackConfig, observer: Observer = _ignore) -> None:
        """Configure a stack; `observer` is called with (child name, event) for each log line."""
        self.config = config
        self.runtime_dir = Path()
        self.cells: list[CellPlan] = []
        self.children: dict[str, Child] = {}
        self.redis_url = ""
        self.target = ""
        self.http_url = ""
        self.page_url = ""
        # Where children serve their metrics; those that serve none are left out.
        self.metrics_urls: dict[str, str] = {}
        self._observer = observer
        self._guard: Guard | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start all processes and wait until requests can be served.

        Raises:
            StackError: a process died, or the stack was not ready within the start timeout.
        """
        self.runtime_dir = make_runtime_dir()
        self._guard = Guard(self.runtime_dir)
        try:
            async with asyncio.timeout(self.config.start_timeout_s):
                await self._start_all()
        except TimeoutError:
            status = await self._describe_unready()
            await self.stop()
            raise StackError(
                f"the stack was not ready after {self.config.start_timeout_s:.0f} s:\n{status}"
            ) from None
        except BaseException:
            await self.stop()
            raise

    async def _start_all(self) -> None:
        base = base_environment(self.config, os.environ)
        self.redis_url = await self._start_redis(base)
        if self.redis_url:
            base[PREFIX + "REDIS__URL"] = self.redis_url
        for index in range(self.config.num_cells):
            (self.runtime_dir / f"cell-{index}").mkdir(mode=0o700)
            cell = plan_cell(index, self.config, base, self.runtime_dir)
            self.cells.append(cell)
            for plan in (cell.draft, cell.verify):
                if plan is not None:
                    self._spawn(plan)
        self._spawn(plan_gateway(self.config, base, self.runtime_dir, self.cells))
        await self.wait_until_ready()

    async def _start_redis(self, base: dict[str, str]) -> str:
        """Return the URL of the registry, after starting one if none was given; empty: none."""
        if self.config.redis_url:
            return "" if self.config.redis_url == NO_REDIS else self.config.redis_url
        program = find_redis_server()
        if program is None:
            return ""
        self._spawn(plan_redis(program, self.runtime_dir, base))
        await self._wait_until(lambda: answers(socket_path(self.runtime_dir)))
        return redis_url(self.runtime_dir)

    def _spawn(self, plan: ChildPlan) -> None:
        log_dir = self.config.log_dir or self.runtime_dir
        log_dir.mkdir(parents=True, exist_ok=True)
        child = Child(plan, log_dir / f"{plan.name}.log")
        self.children[plan.name] = child
        if self._guard is not None:
            self._guard.watch(child)

    def restart(self, name: str, plan: ChildPlan | None = None) -> None:
        """Start a child that has ended once more; health tells when it serves again.

        plan: another than it had, from now on.
        """
        ended = self.children[name]
        assert ended.exit_status is not None, f"{name} still runs"
        if self._guard is not None:
            self._guard.forget(ended)
        self._spawn(plan or ended.plan)

    def poll(self) -> list[Child]:
        """Pass new log events on to the observer; return the children that have ended."""
        for child in self.children.values():
            for event in child.log.read():
                self._note(child.name, event)
                self._observer(child.name, event)
        return [child for child in self.children.values() if child.exit_status is not None]

    def _note(self, name: str, event: dict[str, Any]) -> None:
        if event.get("event") not in STARTED_EVENTS:
            return
        if name == "gateway":
            self.target = str(event["address"])
            self.http_url = str(event.get("http_url", ""))
            self.page_url = str(event.get("page_url", ""))
        if url := event.get("metrics"):
            self.metrics_urls[name] = str(url)

    async def wait_until_ready(self) -> None:
        """Wait until requests can be served.

        Raises:
            StackError: a process has died.
        """
        await self._wait_until(self._is_ready)

    async def _wait_until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition, but not for the dead."""
        while True:
            if ended := self.poll():
                raise StackError(ended[0].describe_end())
            if await holds():
                return
            await asyncio.sleep(POLL_S)

    async def _is_ready(self) -> bool:
        return not await self._first_unready()

    async def _first_unready(self) -> str:
        """Name the first thing that is not ready; empty when all is."""
        for cell in self.cells:
            if not await is_serving(cell.verify_target, VERIFY_SERVICE):
                return f"{cell.verify.name} does not serve yet"
            is_plain = self.config.cell_kind is CellKind.PLAIN
            if not is_plain and not await is_serving(cell.verify_target, SPECULATION):
                return f"{cell.verify.name} has no draft worker yet"
        if not self.target or not await is_serving(
            self.target, GATEWAY_SERVICE, tls=self.config.access.tls
        ):
            return "gateway does not serve yet"
        missing = {cell.cell_id for cell in self.cells} - await self._listed_cells()
        return f"gateway does not know {', '.join(sorted(missing))} yet" if missing else ""

    async def _listed_cells(self) -> set[str]:
        async with Client(self.target, self.config.access) as client:
            try:
                served = await client.models(timeout_s=1.0)
            except Unauthenticated as error:
                raise StackError(
                    f"the gateway does not let its own stack in: {error.message}; set {KEY}"
                ) from None
            except ShortstackError:
                return set()
        # The gateway learns of a cell first, and of its model a moment later.
        return {cell.cell_id for cell in served.cells} if served.models else set()

    async def _describe_unready(self) -> str:
        tails = [f"{child.name}:\n{child.tail()}" for child in self.children.values()]
        return "\n".join([await self._first_unready(), *tails])

    async def stop(self) -> None:
        """End all processes, front first, and remove what they leave. Idempotent."""
        for group in ("gateway", "verify", "draft", "redis"):
            await self._end([c for c in self.children.values() if c.name.startswith(group)])
        self.children.clear()
        self.cells.clear()
        remove_orphaned_segments()
        if self._guard is not None:
            shutil.rmtree(self.runtime_dir, ignore_errors=True)
            self._guard.close()
            self._guard = None

    async def _end(self, children: list[Child]) -> None:
        """Ask, wait, insist."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in children:
                child.send(number)
            deadline = time.monotonic() + self.config.stop_timeout_s
            while any(c.exit_status is None for c in children) and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
        for child in children:
            if self._guard is not None:
                self._guard.forget(child)
