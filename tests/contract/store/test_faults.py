"""Redis killed, stopped, flushed, read-only, full or forbidding: an outcome, never an exception."""

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from shared.control.store.cell_load import CellLoad
from shared.control.store.claim import Claim
from shared.control.store.costs import CostCell
from shared.control.store.guarded_redis import MAX_FAILURES, MAX_OPEN_S, OPEN_S, Outcome
from shared.control.store.keys import session_name
from shared.control.store.prior_counts import PriorFlush, PriorKey
from shared.control.store.store import ControlStore
from shared.ids import CellId
from tests.contract.store.conftest import DAY, MK, Clock, MakeStore, state_of
from tests.redis_server import RedisServer

NAME = session_name("ann", "talk")
# Longer than any answer takes; only what would hang is cut off by it.
BOUND_S = 20.0
OPERATIONS: dict[str, Callable[[ControlStore], Awaitable[object]]] = {
    "claim": lambda store: store.claim(NAME, MK),
    "flush": lambda store: store.flush(NAME, 1, 1, state_of()),
    "add_prior": lambda store: store.add_prior(
        PriorFlush(PriorKey(MK, "ann"), DAY, "a-1", Counter({"pos": 1}))
    ),
    "read_prior": lambda store: store.read_priors(PriorKey(MK, "ann"), DAY),
    "merge_cost": lambda store: store.merge_cost("hk", {"h": CostCell(1, 1, 1)}),
    "read_cost": lambda store: store.read_cost("hk"),
    "read_arms": lambda store: store.read_arms(MK),
    "write_live": lambda store: store.write_live(CellId("c"), CellLoad(0, 0, "off", 0, False)),
}
WRITES = ("claim", "flush", "add_prior", "merge_cost", "write_live")


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_killed_redis_is_down_for_every_operation(
    make_store: MakeStore, server: RedisServer, operation: str
) -> None:
    store = make_store()
    server.kill()
    for _ in range(2 * MAX_FAILURES):
        assert await OPERATIONS[operation](store) in (Outcome.DOWN, None)
    assert store.counters.results == {(operation, Outcome.DOWN): 2 * MAX_FAILURES}
    assert store.is_degraded


async def test_scripts_that_redis_forgot_are_loaded_again(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    for _ in range(2):
        for operation in OPERATIONS.values():
            assert await operation(store) not in (Outcome.DOWN, Outcome.REFUSED)
        server.client.script_flush()
    assert not store.is_degraded
    assert Outcome.DOWN not in {outcome for _, outcome in store.counters.results}


async def test_three_failures_open_the_breaker_and_its_trials_come_ever_later(
    make_store: MakeStore, server: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = make_store()
    server.kill()
    for _ in range(MAX_FAILURES - 1):
        await store.read_arms(MK)
    assert not store.is_degraded
    await store.read_arms(MK)
    waits_s = []
    for _ in range(7):
        waits_s.append(store.wait_s)
        await store.read_arms(MK)
        assert store.wait_s == waits_s[-1], "a skipped try is no trial"
        clock.now_s += store.wait_s
        await store.read_arms(MK)
    assert waits_s == [OPEN_S, 2, 4, 8, 16, MAX_OPEN_S, MAX_OPEN_S]
    assert _events(caplog) == ["redis lost"]

    server.start()
    assert await store.read_arms(MK) is None, "the breaker is open"
    clock.now_s += store.wait_s
    assert await store.read_arms(MK) is not None
    assert not store.is_degraded
    assert _events(caplog) == ["redis lost", "redis back"]
    server.kill()
    for _ in range(MAX_FAILURES):
        await store.read_arms(MK)
    assert store.wait_s == OPEN_S


async def test_a_stopped_redis_is_waited_for_no_longer_than_the_timeout(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store(write_timeout_ms=50)
    assert isinstance(await store.claim(NAME, MK), Claim)
    server.process.send_signal(signal.SIGSTOP)
    try:
        for operation in OPERATIONS.values():
            answer = await asyncio.wait_for(operation(store), BOUND_S)
            assert answer in (Outcome.DOWN, None)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert store.is_degraded


async def test_a_read_only_redis_counts_as_down_for_what_is_written(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    server.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    for name in WRITES:
        store = make_store()
        for _ in range(MAX_FAILURES):
            assert await OPERATIONS[name](store) is Outcome.DOWN, name
        assert store.is_degraded, name
    assert await OPERATIONS["read_prior"](make_store()) is not None
    server.client.execute_command("REPLICAOF", "NO", "ONE")
    clock.now_s += store.wait_s
    assert await OPERATIONS["write_live"](store) is Outcome.DONE
    assert not store.is_degraded


async def test_a_full_redis_counts_as_down_for_what_is_written(
    make_store: MakeStore, server: RedisServer
) -> None:
    server.client.config_set("maxmemory", "1")
    for name in WRITES:
        store = make_store()
        for _ in range(MAX_FAILURES):
            assert await OPERATIONS[name](store) is Outcome.DOWN, name
        assert store.is_degraded, name


@pytest.mark.parametrize(
    "rules",
    [("+@all", "-hset", "-hincrby"), ("+@all", "-evalsha"), ("+@all", "-hmget", "-set", "-hget")],
)
async def test_a_redis_that_forbids_it_counts_as_down(
    make_store: MakeStore, server: RedisServer, rules: tuple[str, ...]
) -> None:
    server.client.execute_command("ACL", "SETUSER", "default", *rules)
    try:
        for name in ("claim", "flush", "add_prior", "merge_cost"):
            store = make_store()
            for _ in range(MAX_FAILURES):
                assert await OPERATIONS[name](store) is Outcome.DOWN, name
            assert store.is_degraded, name
    finally:
        server.client.execute_command("ACL", "SETUSER", "default", "+@all")


async def test_times_are_counted_for_answers_and_not_for_skipped_tries(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store(clock=TickingClock())
    await store.claim(NAME, MK)
    elapsed_us = store.counters.elapsed_us["claim"]
    assert elapsed_us > 0
    server.kill()
    for _ in range(MAX_FAILURES):
        await store.claim(NAME, MK)
    before = store.counters.elapsed_us["claim"]
    assert before > elapsed_us
    await store.claim(NAME, MK)
    assert store.counters.elapsed_us["claim"] == before


class TickingClock(Clock):
    """Seconds that pass a little with every look."""

    def __call__(self) -> float:
        self.now_s += 0.001
        return self.now_s


def _events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name.startswith("shared.control")]
