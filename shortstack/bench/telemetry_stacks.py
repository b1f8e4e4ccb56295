"""The stacks that differ in telemetry alone, and what scrapes those that have metrics."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from shared.control.periodic import PeriodicTask
from shortstack.bench.cpu_time import cpu_s
from shortstack.bench.http_connection import HttpConnection, write_request
from shortstack.client import Client
from shortstack.plan import PREFIX, StackConfig
from shortstack.stack import Stack

# Neither traces nor metrics; metrics and the default sampling; metrics and every request traced.
OFF, DEFAULT, ALL = MODES = ("off", "default", "all")
# How often our Prometheus looks (deploy/prometheus).
SCRAPE_MS = 5000
METRICS_SERVICES = ("GATEWAY", "VERIFY", "DRAFT")


@dataclass(frozen=True, slots=True)
class Subject:
    """A stack that is up, and a client of it."""

    stack: Stack
    client: Client

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time that each process has taken so far."""
        return {name: cpu_s(child.pid) for name, child in self.stack.children.items()}


@asynccontextmanager
async def open_subjects(
    plain: StackConfig,
    endpoint: str,
    more: Mapping[str, str],
    *,
    has_all: bool,
    is_reversed: bool = False,
) -> AsyncIterator[dict[str, Subject]]:
    """Bring a stack up for each mode.

    Args:
        plain: the stack without telemetry.
        endpoint: where the others send spans.
        more: variables of the others.
        has_all: whether there is one that traces every request.
        is_reversed: whether the stack without telemetry is started last.
    """
    ports = {f"{PREFIX}{name}__METRICS_LISTEN": "127.0.0.1:0" for name in METRICS_SERVICES}
    seen = replace(plain, otlp=endpoint, environ={**plain.environ, **ports, **more})
    configs = {OFF: plain, DEFAULT: seen}
    if has_all:
        configs[ALL] = replace(seen, sampling_ratio=1.0)
    async with AsyncExitStack() as exits:
        subjects = {}
        for mode, config in reversed(configs.items()) if is_reversed else configs.items():
            stack = await exits.enter_async_context(Stack(config))
            client = await exits.enter_async_context(Client(stack.target))
            await exits.enter_async_context(scraped(stack))
            subjects[mode] = Subject(stack, client)
        yield subjects


@asynccontextmanager
async def scraped(stack: Stack) -> AsyncIterator[None]:
    """Ask for a stack's metrics, where it has any, as often as a Prometheus does."""

    async def scrape() -> None:
        for url in stack.metrics_urls.values():
            async with HttpConnection(url) as connection:
                headers = {"host": "localhost", "accept": "application/openmetrics-text"}
                await connection.answer(write_request("GET", urlsplit(url).path, headers, b""))

    task = PeriodicTask(SCRAPE_MS, scrape)
    task.start()
    try:
        yield
    finally:
        await task.stop()
