"""States on their way to a real Redis: the last of each conversation arrives, whatever happens."""

from shared.control.store.claim import Claim
from shared.control.store.guarded_redis import MAX_FAILURES, Outcome
from shared.control.store.keys import session_name
from shared.control.store.store import ControlStore
from shared.control.store.stored_session import StoredSession
from shared.control.store.write_behind import WriteBehind
from tests.contract.store.conftest import MK, Clock, MakeStore, state_of
from tests.redis_server import RedisServer


def session_of(talk: str = "talk", turn: int = 1, mk: str = MK) -> StoredSession:
    """Return a session that is to be claimed."""
    return StoredSession(session_name("ann", talk), mk, turn)


async def rounds_stored(store: ControlStore, talk: str = "talk") -> int | None:
    """Return what tells the state that the next turn would read."""
    answer = await store.claim(session_name("ann", talk), MK)
    assert isinstance(answer, Claim)
    return answer.state.num_rounds if answer.state else None


async def test_of_several_states_only_the_last_is_written(make_store: MakeStore) -> None:
    store = make_store()
    queue = WriteBehind(store, 10)
    session = session_of()
    for num_rounds in range(1, 6):
        queue.put(session, state_of(num_rounds=num_rounds))
    assert len(queue) == 1
    await queue.drain()
    assert len(queue) == 0
    assert store.counters.results["flush", Outcome.DONE] == 1
    assert await rounds_stored(make_store()) == 5


async def test_what_redis_did_not_take_arrives_when_it_is_back(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    queue = WriteBehind(store, 10)
    session = session_of()
    await session.claim(store)
    server.kill()
    for num_rounds in range(1, 10):
        queue.put(session, state_of(num_rounds=num_rounds))
        await queue.drain()
    assert store.is_degraded
    assert len(queue) == 1
    server.start()
    clock.now_s += store.wait_s
    await queue.drain()
    assert len(queue) == 0
    assert not store.is_degraded
    assert await rounds_stored(store) == 9


async def test_a_session_opened_while_redis_was_away_is_claimed_later(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    queue = WriteBehind(store, 10)
    server.kill()
    session = session_of()
    for _ in range(MAX_FAILURES):
        assert await session.claim(store) is Outcome.DOWN
    queue.put(session, state_of(num_rounds=3))
    server.start()
    clock.now_s += store.wait_s
    await queue.drain()
    assert await rounds_stored(store) == 3


async def test_beyond_the_limit_the_oldest_state_is_dropped_and_counted(
    make_store: MakeStore,
) -> None:
    store = make_store()
    queue = WriteBehind(store, 3)
    sessions = [session_of(f"talk-{index}") for index in range(5)]
    for session in sessions[:3]:
        queue.put(session, state_of(num_rounds=1))
    queue.put(sessions[0], state_of(num_rounds=2))
    for session in sessions[3:]:
        queue.put(session, state_of(num_rounds=1))
    assert (len(queue), queue.num_dropped) == (3, 2)
    await queue.drain()
    stored = [await rounds_stored(store, f"talk-{index}") for index in range(5)]
    assert stored == [2, None, None, 1, 1]


async def test_a_session_whose_conversation_another_cell_has_taken_writes_no_more(
    make_store: MakeStore,
) -> None:
    store, other = make_store(), make_store()
    queue = WriteBehind(store, 10)
    session = session_of()
    queue.put(session, state_of(num_rounds=1))
    await queue.drain()
    assert await rounds_stored(other) == 1
    queue.put(session, state_of(num_rounds=2))
    await queue.drain()
    assert session.is_over
    queue.put(session, state_of(num_rounds=3))
    assert len(queue) == 0
    assert store.counters.results["flush", Outcome.STALE] == 1
    assert await rounds_stored(other) == 1


async def test_of_two_sessions_of_one_conversation_the_later_writes(make_store: MakeStore) -> None:
    store = make_store()
    queue = WriteBehind(store, 10)
    early, late = session_of(turn=1), session_of(turn=2)
    queue.put(early, state_of(num_rounds=1))
    queue.put(late, state_of(num_rounds=2))
    queue.put(early, state_of(num_rounds=9))
    await queue.drain()
    assert await rounds_stored(store) == 2
    assert early.is_over and not late.is_over


async def test_a_conversation_that_goes_on_here_takes_over_what_still_waits(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    queue = WriteBehind(store, 10)
    before = session_of(turn=1)
    await before.claim(store)
    server.kill()
    queue.put(before, state_of(num_rounds=4))
    await queue.drain()
    now = session_of(turn=2)
    assert queue.take_over(now) == state_of(num_rounds=4)
    assert queue.take_over(session_of(turn=3, mk="mk-b")) is None
    assert queue.take_over(session_of("other", turn=4)) is None
    server.start()
    await now.claim(store)
    await queue.drain()
    assert await rounds_stored(store) == 4


async def test_a_claim_is_made_once_however_many_ask_for_it(make_store: MakeStore) -> None:
    store = make_store()
    session = session_of()
    assert [await session.claim(store) for _ in range(3)] == [Outcome.DONE] * 3
    assert store.counters.results["claim", Outcome.DONE] == 1


async def test_a_flushed_redis_takes_the_next_state(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    queue = WriteBehind(store, 10)
    session = session_of()
    queue.put(session, state_of(num_rounds=1))
    await queue.drain()
    server.client.flushall()
    queue.put(session, state_of(num_rounds=2))
    await queue.drain()
    assert await rounds_stored(store) == 2
