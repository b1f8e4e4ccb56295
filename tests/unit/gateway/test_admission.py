"""Places are limited, the queue is bounded and fair, and nothing is lost when somebody gives up."""

import asyncio

import pytest

from services.gateway.admission import Admission
from shared.errors import QueueFull, WorkerDraining
from tests.polling import poll_until


async def hold(admission: Admission, release: asyncio.Event, order: list[str], name: str) -> None:
    """Hold a place until released; note when it was got."""
    async with admission.place():
        order.append(name)
        await release.wait()


async def test_those_who_wait_are_served_in_order() -> None:
    admission = Admission(1, 10, 5.0)
    releases = [asyncio.Event() for _ in range(3)]
    order: list[str] = []
    tasks = []
    for index, release in enumerate(releases):
        tasks.append(asyncio.create_task(hold(admission, release, order, f"request {index}")))
        await poll_until(lambda index=index: admission.num_running + admission.num_waiting > index)
    for count, release in enumerate(releases, start=1):
        await poll_until(lambda count=count: len(order) == count)
        release.set()
    await asyncio.gather(*tasks)
    assert order == ["request 0", "request 1", "request 2"]
    assert (admission.num_running, admission.num_waiting) == (0, 0)


async def test_a_full_queue_refuses_with_a_delay() -> None:
    admission = Admission(1, 0, 5.0)
    async with admission.place():
        with pytest.raises(QueueFull) as caught:
            async with admission.place():
                raise AssertionError("there is no place")
    assert caught.value.retry_delay_ms > 0
    async with admission.place():
        assert admission.num_running == 1


async def test_a_late_turn_refuses_and_keeps_no_place() -> None:
    admission = Admission(1, 5, 0.02)
    async with admission.place():
        with pytest.raises(QueueFull, match="no place within"):
            async with admission.place():
                raise AssertionError("there is no place")
        assert admission.num_waiting == 0
    assert admission.num_running == 0


async def test_who_gives_up_in_the_queue_leaves_no_trace() -> None:
    admission = Admission(1, 5, 5.0)
    release, order = asyncio.Event(), list[str]()
    first = asyncio.create_task(hold(admission, release, order, "first"))
    await poll_until(lambda: admission.num_running == 1)
    second = asyncio.create_task(hold(admission, release, order, "second"))
    await poll_until(lambda: admission.num_waiting == 1)
    second.cancel()
    await asyncio.wait([second])
    assert admission.num_waiting == 0
    release.set()
    await first
    assert admission.num_running == 0


async def test_who_gives_up_when_the_turn_has_come_hands_it_on() -> None:
    admission = Admission(1, 5, 5.0)
    release, order = asyncio.Event(), list[str]()
    first = asyncio.create_task(hold(admission, release, order, "first"))
    await poll_until(lambda: admission.num_running == 1)
    second = asyncio.create_task(hold(admission, release, order, "second"))
    third = asyncio.create_task(hold(admission, release, order, "third"))
    await poll_until(lambda: admission.num_waiting == 2)
    release.set()
    await poll_until(first.done, period_s=0)
    second.cancel()
    await asyncio.wait([second, third])
    assert admission.num_running == 0
    assert await admission.wait_idle(0.0)


async def test_a_closed_gateway_takes_nobody_new_and_lets_the_others_finish() -> None:
    admission = Admission(1, 5, 5.0)
    release, order = asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(hold(admission, release, order, name)) for name in ("a", "b")]
    await poll_until(lambda: admission.num_waiting == 1)
    admission.close()
    with pytest.raises(WorkerDraining):
        async with admission.place():
            raise AssertionError("it is closed")
    assert not await admission.wait_idle(0.01)
    release.set()
    assert await admission.wait_idle(5.0)
    await asyncio.gather(*tasks)
    assert order == ["a", "b"]
