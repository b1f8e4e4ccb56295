"""Task streams' records in a real Redis: the one that tried more wins, and none is ever needed."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.verify.events import AdoptStream
from services.verify.store_traffic import CellFacts, StoreTraffic
from services.verify.stream_link import StreamLink
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import StreamRecord
from shared.control.store.cell_load import CellLoad
from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import stream_key
from shared.control.store.store import ControlStore
from shared.control.store.stream_queue import StreamQueue
from shared.ids import BootId, CellId
from shared.speculation.skip_set import SkipSet
from tests.contract.store.conftest import MK, Clock, MakeStore
from tests.polling import poll_until
from tests.redis_server import RedisServer

KEY = stream_key(MK, "ann", "tales")
OPTIONS = SearchOptions(num_layers=8)
BETTER = SkipSet.from_wire((4, 5, 8, 9, 12))


def test_keys_tell_streams_apart_and_nothing_of_their_names() -> None:
    keys = {KEY, stream_key(MK), stream_key(MK, "ann", "sums"), stream_key(MK, "bob", "tales")}
    assert len(keys) == 4
    assert stream_key(MK) == "ss1:swift:{mk-a}:all"
    assert not any("ann" in key or "tales" in key for key in keys)


async def test_the_record_of_more_candidates_wins(make_store: MakeStore) -> None:
    store, other = make_store(), make_store()
    assert await store.read_stream(KEY) is None
    assert await store.write_stream(KEY, 5, "five") is Outcome.DONE
    assert await other.write_stream(KEY, 4, "four") is Outcome.STALE
    assert await other.read_stream(KEY) == b"five"
    assert await other.write_stream(KEY, 5, "later") is Outcome.DONE
    assert await store.read_stream(KEY) == b"later"


async def test_a_newer_versions_record_is_left_alone(
    make_store: MakeStore, server: RedisServer
) -> None:
    server.client.hset(KEY, mapping={"ver": 2, "num": 0, "record": "new"})
    store = make_store()
    assert await store.read_stream(KEY) is None
    assert await store.write_stream(KEY, 9, "old") is Outcome.STALE
    assert server.client.hget(KEY, "record") == b"new"


async def test_a_record_waits_while_redis_is_away_and_the_last_one_arrives(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    queue = StreamQueue(store)
    server.kill()
    for count in range(1, 6):
        queue.put(KEY, count, f"record {count}")
        await queue.drain()
    assert len(queue) == 1
    server.start()
    clock.now_s += store.wait_s
    await queue.drain()
    assert len(queue) == 0
    assert await store.read_stream(KEY) == b"record 5"


class Cell:
    """What a verify worker has of its streams, without the rest of it."""

    def __init__(self, store: ControlStore, clock: Clock) -> None:
        facts = CellFacts(CellId("cell"), BootId(1), "fp", lambda: CellLoad(0, 0, "off", 0, False))
        self.traffic = StoreTraffic(store, facts, clock.now_ms, clock)
        self.adopted: list[AdoptStream] = []
        loop = asyncio.get_running_loop()
        self.link = StreamLink(self.traffic, OPTIONS, str, loop, self.adopted.append)

    async def written(self) -> None:
        """Return once all that was kept has been tried."""
        await poll_until(lambda: len(self.traffic.streams) > 0)
        await self.traffic.streams.drain()


@pytest.fixture
async def make_cell(make_store: MakeStore, clock: Clock) -> AsyncIterator[type[Cell]]:
    yield lambda: Cell(make_store(), clock)  # type: ignore[misc]


async def test_a_worker_that_starts_anew_takes_the_record_up(make_cell: type[Cell]) -> None:
    before = make_cell()
    record = StreamRecord(BETTER, version=3, num_evaluations_ever=40, acceptance=0.5)
    before.link.keep("ann\0tales", record)
    await before.written()
    after = make_cell()
    after.link.want("ann\0tales")
    await poll_until(lambda: after.adopted)
    assert after.adopted == [AdoptStream("ann\0tales", record)]
    after.link.want("")
    after.link.want("ann\0sums")
    after.link.want("ann\0tales")
    await poll_until(lambda: len(after.adopted) == 2)
    assert {each.name for each in after.adopted} == {"ann\0tales"}


async def test_a_worker_that_is_behind_takes_up_what_another_found(make_cell: type[Cell]) -> None:
    first, second = make_cell(), make_cell()
    ahead = StreamRecord(BETTER, num_evaluations_ever=40)
    first.link.keep("", ahead)
    await first.written()
    second.link.keep("", StreamRecord(OPTIONS.start_set, num_evaluations_ever=3))
    await second.written()
    await poll_until(lambda: second.adopted)
    assert second.adopted == [AdoptStream("", ahead)]


async def test_a_record_that_cannot_be_read_counts_as_none(
    make_cell: type[Cell], server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    cell = make_cell()
    cell.link.keep("", StreamRecord(BETTER, num_evaluations_ever=1))
    await cell.written()
    (key,) = server.client.keys("ss1:swift:*")
    server.client.hset(key, "record", "{}")
    cell.link.want("")
    await poll_until(lambda: "cannot be read" in caplog.text)
    assert cell.adopted == []
