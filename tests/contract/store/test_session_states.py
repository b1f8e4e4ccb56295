"""A session's state on a real Redis: whoever claimed last writes it, and nobody else does."""

import asyncio

from shared.control.store.claim import Claim
from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import session_name
from shared.control.store.session_state import VERSION
from shared.control.store.store import ControlStore
from tests.contract.store.conftest import MK, Clock, MakeStore, state_of
from tests.redis_server import RedisServer

NAME = session_name("ann", "talk")


async def claim(store: ControlStore, mk: str = MK) -> Claim:
    """Claim the session; it must succeed."""
    answer = await store.claim(NAME, mk)
    assert isinstance(answer, Claim)
    return answer


async def test_the_next_claim_reads_what_was_flushed(make_store: MakeStore) -> None:
    store = make_store()
    first = await claim(store)
    assert first.state is None
    assert await store.flush(NAME, first.epoch, 1, state_of(num_rounds=5)) is Outcome.DONE
    second = await claim(make_store())
    assert second.epoch > first.epoch
    assert second.state == state_of(num_rounds=5)


async def test_a_stale_epoch_is_refused_and_changes_nothing(make_store: MakeStore) -> None:
    old, new = make_store(), make_store()
    old_claim, new_claim = await claim(old), await claim(new)
    assert await new.flush(NAME, new_claim.epoch, 1, state_of(num_rounds=2)) is Outcome.DONE
    assert await old.flush(NAME, old_claim.epoch, 9, state_of(num_rounds=9)) is Outcome.STALE
    assert (await claim(new)).state == state_of(num_rounds=2)


async def test_a_repeated_flush_is_a_duplicate_and_an_earlier_one_changes_nothing(
    make_store: MakeStore,
) -> None:
    store = make_store()
    epoch = (await claim(store)).epoch
    assert await store.flush(NAME, epoch, 2, state_of(num_rounds=2)) is Outcome.DONE
    assert await store.flush(NAME, epoch, 2, state_of(num_rounds=2)) is Outcome.DUPLICATE
    assert await store.flush(NAME, epoch, 1, state_of(num_rounds=1)) is Outcome.DUPLICATE
    assert (await claim(store)).state == state_of(num_rounds=2)


async def test_a_claim_after_an_eviction_outranks_the_old_owner(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    for _ in range(3):
        old = await claim(store)
    server.client.delete(NAME)
    clock.now_s += 1
    new = await claim(store)
    assert new.epoch > old.epoch
    assert await store.flush(NAME, old.epoch, 1, state_of()) is Outcome.STALE


async def test_a_clock_that_is_behind_does_not_lose_its_claim(make_store: MakeStore) -> None:
    early, late = Clock(), Clock()
    late.now_s += 3600
    first = await claim(make_store(clock=late))
    behind = make_store(clock=early)
    second = await claim(behind)
    assert second.epoch == first.epoch + 1
    assert await behind.flush(NAME, second.epoch, 1, state_of()) is Outcome.DONE


async def test_what_a_newer_version_wrote_is_left_untouched(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    epoch = (await claim(store)).epoch
    server.client.hset(NAME, mapping={"ver": VERSION + 1, "tomorrow": "x"})
    before = server.client.hgetall(NAME)
    assert await store.claim(NAME, MK) is Outcome.STALE
    assert await store.flush(NAME, epoch, 1, state_of()) is Outcome.STALE
    assert server.client.hgetall(NAME) == before


async def test_another_mk_does_not_read_the_state_but_owns_it(make_store: MakeStore) -> None:
    store = make_store()
    old = await claim(store)
    await store.flush(NAME, old.epoch, 1, state_of())
    other = await claim(store, mk="mk-b")
    assert other.state is None
    assert await store.flush(NAME, old.epoch, 2, state_of()) is Outcome.STALE
    await store.flush(NAME, other.epoch, 1, state_of(mk="mk-b", num_rounds=8))
    assert (await claim(store)).state is None
    assert (await claim(store, mk="mk-b")).state == state_of(mk="mk-b", num_rounds=8)


async def test_of_claims_at_once_exactly_one_owns_the_state(make_store: MakeStore) -> None:
    stores = [make_store() for _ in range(4)]
    claims = await asyncio.gather(*(claim(store) for store in stores for _ in range(5)))
    epochs = [each.epoch for each in claims]
    assert len(set(epochs)) == len(epochs)
    outcomes = [await stores[0].flush(NAME, epoch, 1, state_of()) for epoch in epochs]
    assert outcomes.count(Outcome.DONE) == 1
    assert outcomes[epochs.index(max(epochs))] is Outcome.DONE


async def test_a_vanished_key_is_written_again(make_store: MakeStore, server: RedisServer) -> None:
    store = make_store()
    epoch = (await claim(store)).epoch
    server.client.flushall()
    assert await store.flush(NAME, epoch, 1, state_of()) is Outcome.DONE
    assert (await claim(store)).state == state_of()


async def test_a_state_expires_after_its_last_turn(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store(session_ttl_s=100)
    epoch = (await claim(store)).epoch
    assert 0 < server.client.pttl(NAME) <= 100_000
    server.client.persist(NAME)
    await store.flush(NAME, epoch, 1, state_of())
    assert 0 < server.client.pttl(NAME) <= 100_000


async def test_a_state_that_cannot_be_read_is_none_and_is_overwritten(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    epoch = (await claim(store)).epoch
    await store.flush(NAME, epoch, 1, state_of())
    for field, value in (("theta", "nan"), ("pos", "-1"), ("d", "x"), ("hz", b"x" * 2049)):
        good = server.client.hget(NAME, field)
        server.client.hset(NAME, field, value)
        assert (await claim(store)).state is None, field
        server.client.hset(NAME, field, good)
    server.client.hdel(NAME, "method")
    broken = await claim(store)
    assert broken.state is None
    await store.flush(NAME, broken.epoch, 1, state_of())
    assert (await claim(store)).state == state_of()


async def test_a_key_of_another_type_is_refused_and_is_no_outage(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    server.client.set(NAME, "garbled")
    for _ in range(5):
        assert await store.claim(NAME, MK) is Outcome.REFUSED
    assert not store.is_degraded
    assert store.counters.results["claim", Outcome.REFUSED] == 5


async def test_no_tenant_or_conversation_is_named_in_a_key(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    name = session_name("ann {1}", "talk: {2}")
    answer = await store.claim(name, MK)
    assert isinstance(answer, Claim)
    (key,) = server.client.keys("*")
    assert key.decode() == name
    assert "ann" not in name and "talk" not in name
    assert name.count("{") == 1
