"""Places are limited, the queue is bounded and fair, and nothing is lost when somebody gives up."""

import asyncio
from typing import Any

import pytest

from services.gateway.admission import Admission, AdmissionLimits, Claim, Place
from shared.control.fair_queue import Priority
from shared.errors import DeadlineExceeded, QueueFull, RateLimited, WorkerDraining
from tests.polling import poll_until
from tests.unit.gateway.places import place_at


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def admission_of(
    max_running: int, max_waiting: int, timeout_s: float, clock: Clock | None = None, **limits: Any
) -> Admission:
    """Return an admission that is empty and open."""
    bounds = AdmissionLimits(max_running, max_waiting, timeout_s, **limits)
    return Admission(bounds, clock=clock or Clock())


async def hold(
    admission: Admission, release: asyncio.Event, order: list[str], name: str, **claim: Any
) -> None:
    """Hold a place until released; note when it was got, and take all that was claimed."""
    async with place_at(admission, Claim(**claim)) as place:
        place.num_used = place.claim.num_tokens
        order.append(name)
        await release.wait()


class Crowd:
    """Requests that run until they are told to end."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.order: list[str] = []
        self.releases: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def join(self, name: str, **claim: Any) -> None:
        """Add a request; return once it runs, waits or was refused."""
        release = self.releases[name] = asyncio.Event()
        task = asyncio.create_task(hold(self.admission, release, self.order, name, **claim))
        self.tasks[name] = task
        # The task runs up to its first wait, which is for its turn or for its release.
        await asyncio.sleep(0)

    async def leave(self, name: str) -> None:
        """End a request."""
        self.releases[name].set()
        await self.tasks[name]

    async def leave_in_turn(self) -> list[str]:
        """End all as they come to run; return their order."""
        for count in range(1, len(self.tasks) + 1):
            await poll_until(lambda count=count: len(self.order) >= count, period_s=0)
            await self.leave(self.order[count - 1])
        return self.order


async def measured(admission: Admission, clock: Clock, num_places: int, gap_s: float) -> None:
    """Let so many requests run one after another, each for `gap_s`; the admission has one place."""
    for _ in range(num_places):
        async with place_at(admission, Claim()):
            clock.now_s += gap_s


async def test_those_who_wait_are_served_in_order() -> None:
    admission = admission_of(1, 10, 5.0)
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
    admission = admission_of(1, 0, 5.0)
    async with place_at(admission, Claim()):
        with pytest.raises(QueueFull) as caught:
            async with place_at(admission, Claim()):
                raise AssertionError("there is no place")
    assert caught.value.retry_delay_ms > 0
    async with place_at(admission, Claim()):
        assert admission.num_running == 1


async def test_a_late_turn_refuses_and_keeps_no_place() -> None:
    admission = admission_of(1, 5, 0.02)
    async with place_at(admission, Claim()):
        with pytest.raises(QueueFull, match="no place within"):
            async with place_at(admission, Claim()):
                raise AssertionError("there is no place")
        assert admission.num_waiting == 0
    assert admission.num_running == 0


async def test_who_gives_up_in_the_queue_leaves_no_trace() -> None:
    admission = admission_of(1, 5, 5.0)
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
    admission = admission_of(1, 5, 5.0)
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
    admission = admission_of(1, 5, 5.0)
    release, order = asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(hold(admission, release, order, name)) for name in ("a", "b")]
    await poll_until(lambda: admission.num_waiting == 1)
    admission.close()
    with pytest.raises(WorkerDraining):
        async with place_at(admission, Claim()):
            raise AssertionError("it is closed")
    assert not await admission.wait_idle(0.01)
    release.set()
    assert await admission.wait_idle(5.0)
    await asyncio.gather(*tasks)
    assert order == ["a", "b"]


async def test_tenants_take_turns_by_tokens() -> None:
    crowd = Crowd(admission_of(1, 20, 5.0))
    await crowd.join("first", tenant="heavy", num_tokens=100)
    for index in range(3):
        await crowd.join(f"heavy-{index}", tenant="heavy", num_tokens=100)
    for index in range(3):
        await crowd.join(f"light-{index}", tenant="light", num_tokens=50)
    assert await crowd.leave_in_turn() == [
        "first", "light-0", "heavy-0", "light-1", "light-2", "heavy-1", "heavy-2",
    ]  # fmt: skip


async def test_tokens_that_were_not_used_are_not_paid_for() -> None:
    admission, order = admission_of(1, 20, 5.0), list[str]()
    release = asyncio.Event()

    async def run(name: str, claim: Claim, num_used: int) -> None:
        async with place_at(admission, claim) as place:
            order.append(name)
            place.num_used = num_used
            await release.wait()

    tasks = [asyncio.create_task(run("first", Claim("other"), 1))]
    for index in range(3):
        frugal = run(f"frugal-{index}", Claim("frugal", num_tokens=100), 10)
        tasks.append(asyncio.create_task(frugal))
    for index in range(3):
        greedy = run(f"greedy-{index}", Claim("greedy", num_tokens=100), 100)
        tasks.append(asyncio.create_task(greedy))
    await poll_until(lambda: admission.num_waiting == 6)
    release.set()
    await asyncio.gather(*tasks)
    assert order == [
        "first", "frugal-0", "greedy-0", "frugal-1", "frugal-2", "greedy-1", "greedy-2",
    ]  # fmt: skip


async def test_low_priority_waits_for_normal_until_it_has_aged() -> None:
    clock = Clock()
    crowd = Crowd(admission_of(1, 20, 50.0, clock, ageing_s=10))
    await crowd.join("first")
    await crowd.join("low", priority=Priority.LOW)
    await crowd.join("normal")
    await crowd.leave("first")
    clock.now_s += 10
    await crowd.join("late")
    assert await crowd.leave_in_turn() == ["first", "normal", "low", "late"]


async def test_a_tenant_at_its_bound_waits_while_others_pass() -> None:
    crowd = Crowd(admission_of(3, 20, 5.0, max_running_of_tenant=1))
    for name, tenant in (("a-0", "a"), ("a-1", "a"), ("a-2", "a"), ("b-0", "b"), ("b-1", "b")):
        await crowd.join(name, tenant=tenant)
    assert crowd.order == ["a-0", "b-0"]
    assert crowd.admission.num_waiting == 3
    await crowd.leave("b-0")
    await poll_until(lambda: crowd.order == ["a-0", "b-0", "b-1"])
    await crowd.leave("a-0")
    await poll_until(lambda: crowd.order[-1] == "a-1")
    assert crowd.admission.num_running == 2
    for name in ("a-1", "b-1", "a-2"):
        await crowd.leave(name)
    assert await crowd.admission.wait_idle(0.0)


async def test_a_tenants_rate_is_refused_with_the_exact_delay() -> None:
    clock = Clock()
    admission = admission_of(9, 9, 5.0, clock, tenant_tokens_per_s=10.0, tenant_burst_tokens=100.0)

    async def take(tenant: str, num_tokens: int, num_used: int) -> None:
        async with place_at(admission, Claim(tenant, num_tokens=num_tokens)) as place:
            place.num_used = num_used

    await take("a", 80, 80)
    with pytest.raises(RateLimited) as caught:
        await take("a", 50, 50)
    # 20 are left, and 30 more come in 3 s.
    assert caught.value.retry_delay_ms == 3001
    await take("b", 50, 50)
    clock.now_s += 2.9
    with pytest.raises(RateLimited):
        await take("a", 50, 0)
    clock.now_s += 0.101
    await take("a", 50, 0)
    # Nothing was used, so that it can be taken again.
    await take("a", 50, 50)
    # More than the bucket ever holds passes when it is full, and is paid for afterwards.
    clock.now_s += 10
    await take("a", 300, 300)
    with pytest.raises(RateLimited) as caught:
        await take("a", 1, 1)
    assert caught.value.retry_delay_ms == pytest.approx(20_101, abs=2)


async def test_a_refused_request_takes_nothing_from_its_tenants_rate() -> None:
    admission = admission_of(1, 0, 5.0, tenant_tokens_per_s=1.0, tenant_burst_tokens=10.0)
    async with place_at(admission, Claim("a", num_tokens=5)):
        for _ in range(3):
            with pytest.raises(QueueFull):
                async with place_at(admission, Claim("a", num_tokens=5)):
                    raise AssertionError("there is no place")


async def test_who_gives_up_as_the_turn_comes_gets_its_tokens_back_once() -> None:
    admission = admission_of(1, 2, 5.0, tenant_tokens_per_s=1.0, tenant_burst_tokens=10.0)
    used = await admission.enter(Claim("a", num_tokens=6))
    waiting = asyncio.create_task(admission.enter(Claim("a", num_tokens=4)))
    await poll_until(lambda: admission.num_waiting == 1)
    used.num_used = 6
    # The turn comes with the place, and the request is cancelled before it has seen that.
    admission.leave(used)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (admission.num_running, admission.num_waiting) == (0, 0)
    admission.leave(await admission.enter(Claim("a", num_tokens=4)))
    with pytest.raises(RateLimited):
        await admission.enter(Claim("a", num_tokens=5))


async def test_in_a_full_queue_the_tenant_with_most_waiting_makes_room() -> None:
    crowd = Crowd(admission_of(1, 3, 5.0))
    await crowd.join("first", tenant="heavy")
    for index in range(3):
        await crowd.join(f"heavy-{index}", tenant="heavy", num_tokens=100)
    await crowd.join("light", tenant="light", num_tokens=100)
    with pytest.raises(QueueFull, match="3 requests wait already") as caught:
        await crowd.tasks.pop("heavy-2")
    assert caught.value.retry_delay_ms > 0
    with pytest.raises(QueueFull):
        async with place_at(crowd.admission, Claim("heavy", num_tokens=100)):
            raise AssertionError("its tenant has most waiting")
    with pytest.raises(QueueFull):
        crowd.admission.check_open("heavy")
    crowd.admission.check_open("new")
    assert await crowd.leave_in_turn() == ["first", "heavy-0", "light", "heavy-1"]


async def test_the_delay_of_a_refusal_is_the_time_in_which_the_queue_drains() -> None:
    clock = Clock()
    admission = admission_of(1, 4, 1000.0, clock)
    await measured(admission, clock, 300, gap_s=0.5)
    crowd = Crowd(admission)
    for index in range(5):
        await crowd.join(str(index))
    with pytest.raises(QueueFull) as caught:
        async with place_at(admission, Claim()):
            raise AssertionError("there is no place")
    assert caught.value.retry_delay_ms == pytest.approx(5 * 500, rel=0.01)
    # Nothing has moved for a while: the queue is not as fast as it was.
    clock.now_s += 10
    with pytest.raises(QueueFull) as caught:
        admission.check_open("")
    assert caught.value.retry_delay_ms > 5 * 700
    await crowd.leave_in_turn()


async def test_a_request_whose_turn_would_come_too_late_is_refused_at_once() -> None:
    clock = Clock()
    admission = admission_of(1, 100, 1000.0, clock)
    crowd = Crowd(admission)
    for index in range(30):
        await crowd.join(str(index))
    # Nothing was measured yet, so nobody can know.
    await crowd.join("unknown", deadline_s=clock.now_s + 5)
    assert admission.num_waiting == 30
    await crowd.leave_in_turn()

    await measured(admission, clock, 300, gap_s=0.5)
    crowd = Crowd(admission)
    for index in range(31):
        await crowd.join(str(index))
    with pytest.raises(QueueFull, match=r"about 15\.5 s, 5\.0 s are left") as caught:
        async with place_at(admission, Claim(deadline_s=clock.now_s + 5)):
            raise AssertionError("its turn comes too late")
    assert caught.value.retry_delay_ms == pytest.approx(10_500, rel=0.01)
    # It may be served in time with some luck: that is for the queue to show.
    await crowd.join("lucky", deadline_s=clock.now_s + 14)
    # Another tenant does not stand behind this one's requests.
    await crowd.join("light", tenant="light", deadline_s=clock.now_s + 5)
    assert admission.num_waiting == 32
    assert (await crowd.leave_in_turn())[1] == "1"
    assert crowd.order.index("light") == 2


async def test_a_request_whose_time_ends_in_the_queue_is_told_so() -> None:
    clock = Clock()
    admission = admission_of(1, 5, 5.0, clock)
    async with place_at(admission, Claim()):
        with pytest.raises(DeadlineExceeded):
            async with place_at(admission, Claim(deadline_s=clock.now_s + 0.02)):
                raise AssertionError("there is no place")
    assert (admission.num_running, admission.num_waiting) == (0, 0)


def test_places_are_told_apart() -> None:
    # The queue takes an item once; equal claims are different requests.
    assert Place(Claim()) != Place(Claim())
