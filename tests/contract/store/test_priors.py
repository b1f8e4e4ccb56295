"""Counts on a real Redis: added once, by level and day, weighted by age when read."""

from collections import Counter

import pytest

from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import prior_name
from shared.control.store.prior_counts import (
    DAY_WEIGHT,
    MIN_TENANT_SESSIONS,
    NUM_DAYS,
    PriorCounts,
    PriorFlush,
    PriorKey,
)
from shared.control.store.store import ControlStore
from tests.contract.store.conftest import DAY, MK, MakeStore
from tests.redis_server import RedisServer

ANN = PriorKey(MK, "ann")
LETTERS = PriorKey(MK, "ann", "letters")


def flush_of(key: PriorKey, flush_id: str, *, day: int = DAY, **counts: int) -> PriorFlush:
    """Return counts on their way; `r_2_1` stands for `r:2:1`."""
    named = {name.replace("_", ":"): count for name, count in counts.items()}
    return PriorFlush(key, day, flush_id, Counter(named))


async def read(store: ControlStore, key: PriorKey, day: int = DAY) -> PriorCounts:
    """Read counts; Redis must answer."""
    counts = await store.read_priors(key, day)
    assert counts is not None
    return counts


async def test_counts_of_several_writers_add_up(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    await one.add_prior(flush_of(ANN, "a-1", r_2_1=10, h_2_1=7, pos=12, sessions=1))
    await two.add_prior(flush_of(ANN, "b-1", r_2_1=5, r_4_8=1, sessions=1))
    counts = await read(one, ANN)
    assert counts.tenant == {"r:2:1": 15, "h:2:1": 7, "r:4:8": 1, "pos": 12, "sessions": 2}


async def test_a_repeated_flush_id_is_counted_once(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    flush = flush_of(LETTERS, "a-1", r_2_1=10, sessions=MIN_TENANT_SESSIONS)
    assert await store.add_prior(flush) is Outcome.DONE
    assert await store.add_prior(flush) is Outcome.DUPLICATE
    server.client.script_flush()
    assert await store.add_prior(flush) is Outcome.DUPLICATE
    counts = await read(store, LETTERS)
    for level in (counts.everyone, counts.tenant, counts.task):
        assert level["r:2:1"] == 10


async def test_a_tasks_counts_are_its_tenants_too_and_nobody_elses(make_store: MakeStore) -> None:
    store = make_store()
    await store.add_prior(flush_of(LETTERS, "a-1", r_2_1=10))
    await store.add_prior(flush_of(ANN, "a-2", r_2_1=3))
    counts = await read(store, LETTERS)
    assert counts.task == {"r:2:1": 10}
    assert counts.tenant == {"r:2:1": 13}
    assert (await read(store, ANN)).task == {}
    assert (await read(store, PriorKey(MK, "ann", "poems"))).task == {}
    for other in (PriorKey(MK, "bob", "letters"), PriorKey("mk-b", "ann", "letters")):
        assert await read(store, other) == PriorCounts()


async def test_a_tenant_adds_to_the_counts_of_all_once_it_had_sessions_enough_that_day(
    make_store: MakeStore,
) -> None:
    store = make_store()
    await store.add_prior(flush_of(ANN, "a-1", r_2_1=1, sessions=MIN_TENANT_SESSIONS - 1))
    assert (await read(store, ANN)).everyone == {}
    await store.add_prior(flush_of(ANN, "a-2", r_2_1=1, sessions=1))
    assert (await read(store, ANN)).everyone == {"r:2:1": 1, "sessions": 1}
    await store.add_prior(flush_of(ANN, "a-3", day=DAY + 1, r_2_1=1, sessions=1))
    assert (await read(store, ANN, DAY + 1)).everyone["sessions"] == round(DAY_WEIGHT)


async def test_tenants_that_may_not_share_add_to_their_own_counts_only(
    make_store: MakeStore,
) -> None:
    store = make_store(shares_priors=False)
    await store.add_prior(flush_of(ANN, "a-1", r_2_1=1, sessions=10 * MIN_TENANT_SESSIONS))
    counts = await read(store, ANN)
    assert counts.everyone == {}
    assert counts.tenant["r:2:1"] == 1


async def test_older_days_weigh_less_and_the_oldest_nothing(make_store: MakeStore) -> None:
    store = make_store()
    for age in range(NUM_DAYS + 2):
        await store.add_prior(flush_of(ANN, f"a-{age}", day=DAY - age, r_2_1=10_000, h_2_1=1))
    counts = (await read(store, ANN)).tenant
    assert counts["r:2:1"] == round(sum(10_000 * 0.7**age for age in range(7)))
    assert counts["h:2:1"] == round(sum(0.7**age for age in range(7)))
    tomorrow = (await read(store, ANN, DAY + 1)).tenant
    assert tomorrow["r:2:1"] == round(sum(10_000 * 0.7**age for age in range(1, 7)))


async def test_a_days_counts_are_kept_for_eight_days(
    make_store: MakeStore, server: RedisServer
) -> None:
    await make_store().add_prior(flush_of(ANN, "a-1", r_2_1=1))
    left_ms = server.client.pttl(prior_name(MK, "ann", "", DAY))
    assert 7 * 86_400_000 < left_ms <= 8 * 86_400_000


async def test_foreign_fields_are_left_out(make_store: MakeStore, server: RedisServer) -> None:
    store = make_store()
    await store.add_prior(flush_of(ANN, "a-1", r_2_1=4))
    fields = {"r:2:2": "nan", "r:2:3": "-5", "r:2:4": "x", "r:2:5": "1e300"}
    server.client.hset(prior_name(MK, "ann", "", DAY), mapping=fields)
    assert (await read(store, ANN)).tenant == {"r:2:1": 4}


@pytest.mark.parametrize("name", ["ann", "a}:{b", "ä\x00b", ""])
async def test_every_key_of_a_flush_is_in_one_slot(
    make_store: MakeStore, server: RedisServer, name: str
) -> None:
    flush = flush_of(PriorKey(MK, name, name), f"{name}-1", sessions=MIN_TENANT_SESSIONS)
    assert await make_store().add_prior(flush) is Outcome.DONE
    keys = [key.decode() for key in server.client.keys("*")]
    assert len(keys) == (4 if name else 3)
    assert {key[key.index("{") : key.index("}") + 1] for key in keys} == {f"{{{MK}}}"}
