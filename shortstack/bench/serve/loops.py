"""How a load is sent: a closed loop of clients, or arrivals that wait for nobody.

A refused client of a closed loop waits as long as it was told and sends the same request again; an
arrival that is refused is gone. Results keep the times of the first try.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from shortstack.bench.serve.result import Outcome, Result
from shortstack.bench.serve.senders import Sender
from shortstack.bench.serve.window import LoadRun
from shortstack.bench.serve.workload import WorkItem

MAX_REFUSALS = 1000
OnResult = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is sent: so many requests, or as many as fit in a span of time."""

    num_requests: int | None = None
    duration_s: float | None = None

    def may_go_on(self, num_sent: int, at_s: float) -> bool:
        """Return whether one more request may be sent, at_s into the load."""
        if self.num_requests is not None and num_sent >= self.num_requests:
            return False
        return self.duration_s is None or at_s < self.duration_s


def ignore(result: Result) -> None:
    """Note nothing."""


async def closed_loop(
    sender: Sender,
    items: Iterator[WorkItem],
    concurrency: int,
    extent: Extent,
    on_result: OnResult = ignore,
) -> LoadRun:
    """Let `concurrency` clients send, each its next request when its last has ended."""
    started_ns = time.perf_counter_ns()
    results: list[Result] = []
    dry_ns: list[int] = []
    num_sent = 0

    async def client() -> None:
        nonlocal num_sent
        while extent.may_go_on(num_sent, (time.perf_counter_ns() - started_ns) / 1e9):
            num_sent += 1
            results.append(await send_patiently(sender, next(items)))
            on_result(results[-1])
        dry_ns.append(time.perf_counter_ns())

    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())
    return LoadRun(results, started_ns, dry_ns[0], time.perf_counter_ns())


async def send_patiently(sender: Sender, item: WorkItem) -> Result:
    """Send a request, again whenever it is refused."""
    result = await sender.send(item, sent_ns := time.perf_counter_ns())
    num_refusals = 0
    while result.outcome is Outcome.REFUSED and num_refusals < MAX_REFUSALS:
        num_refusals += 1
        await asyncio.sleep(result.retry_delay_ms / 1e3)
        result = await sender.send(item, sent_ns)
    return replace(result, num_refusals=num_refusals)


async def open_loop(
    sender: Sender,
    items: Iterator[WorkItem],
    arrivals_s: Iterable[float],
    extent: Extent,
    on_result: OnResult = ignore,
) -> LoadRun:
    """Send requests at their arrival times, whatever became of those before them."""
    started_ns = time.perf_counter_ns()
    results: list[Result] = []
    dry_ns = started_ns

    async def send(item: WorkItem, sent_ns: int) -> None:
        results.append(await sender.send(item, sent_ns))
        on_result(results[-1])

    async with asyncio.TaskGroup() as requests:
        for num_sent, at_s in enumerate(arrivals_s):
            if not extent.may_go_on(num_sent, at_s):
                break
            dry_ns = started_ns + int(at_s * 1e9)
            await asyncio.sleep((dry_ns - time.perf_counter_ns()) / 1e9)
            requests.create_task(send(next(items), dry_ns))
    return LoadRun(results, started_ns, dry_ns, time.perf_counter_ns())
