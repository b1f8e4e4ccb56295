"""The verify worker's side of the store: what one turn leaves, the next begins with."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from services.verify.session import SessionRequest
from services.verify.session_store import SessionStore
from services.verify.store_traffic import CellFacts
from services.verify.stored_evidence import Carried, OpenSession, StoredEvidence
from shared.control.store.arms import Arms
from shared.control.store.cell_load import CellLoad
from shared.control.store.costs import CostCell
from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import arms_name, live_name
from shared.ids import BootId, CellId, SessionId, TokenId
from shared.settings import RedisSettings
from shared.speculation.vocabulary import PLAIN_DECISION, Decision, SamplingParams, StopParams
from tests.contract.store.conftest import Clock
from tests.polling import poll_until
from tests.redis_server import RedisServer

DECISION = Decision("layerskip", 2, 4)
REQUEST = SessionRequest(
    session_id=SessionId("s"),
    token_ids=(TokenId(1),),
    num_emitted=0,
    sampling=SamplingParams(),
    stop=StopParams(8),
    wished=DECISION,
    tenant="ann",
    session_key="talk",
    task_key="letters",
)
WARM = replace(REQUEST, sampling=SamplingParams(temperature=1.0))
EVIDENCE = StoredEvidence(DECISION, True, b"\x01\x00\xff", 30, 10, 40, 25)
COUNTS = {"r:2:1": 10, "h:2:1": 7, "pos": 12, "sessions": 1}
# So long that only what would hang is cut off by it.
BOUND_S = 20.0

MakeStore = Callable[..., SessionStore]


@pytest.fixture
async def make_store(settings: RedisSettings, clock: Clock) -> AsyncIterator[MakeStore]:
    """Make stores, each of a cell of its own; they are closed at the end."""
    async with AsyncExitStack() as stack:

        def make(cell: str = "cell-a", **options: Any) -> SessionStore:
            redis_options = {"claim_timeout_ms": 20_000}
            redis_options |= {
                name: options.pop(name)
                for name in list(options)
                if name in RedisSettings.model_fields
            }
            facts = CellFacts(
                CellId(cell), BootId(7), "fingerprint",
                read_load=lambda: CellLoad(1, 0, "on", 10.0, is_degraded=False), **options,
            )  # fmt: skip
            changed = settings.model_copy(update=redis_options)
            store = SessionStore(changed, facts, clock.now_ms, clock)
            stack.push_async_callback(store.close)
            return store

        yield make


async def open_and_wait(store: SessionStore, request: SessionRequest = REQUEST) -> Carried:
    """Open a session and wait for what it begins with."""
    return await asyncio.wait_for(store.open(request).carried(), BOUND_S)


async def leave(
    store: SessionStore, request: SessionRequest = REQUEST, evidence: StoredEvidence = EVIDENCE
) -> OpenSession:
    """Run one turn to its end, and write what it leaves."""
    session = store.open(request)
    await session.carried()
    store.close_session(session, evidence, COUNTS)
    assert store.traffic is not None
    await store.traffic.flush()
    return session


async def test_the_next_turn_begins_with_what_the_last_one_left_on_another_cell(
    make_store: MakeStore,
) -> None:
    await leave(make_store("cell-a"))
    carried = await open_and_wait(make_store("cell-b"))
    assert carried.evidence == EVIDENCE
    assert carried.priors is not None
    assert carried.priors.task == carried.priors.tenant == COUNTS


async def test_counts_of_a_conversation_run_on_from_turn_to_turn(make_store: MakeStore) -> None:
    store = make_store()
    for _ in range(3):
        await leave(store)
    carried = await open_and_wait(store)
    assert carried.evidence == replace(
        EVIDENCE, num_positions=90, num_rounds=30, num_drafted=120, num_accepted=75
    )


async def test_another_conversation_tenant_or_class_of_sampling_begins_with_nothing(
    make_store: MakeStore,
) -> None:
    store = make_store()
    await leave(store)
    others = [
        replace(REQUEST, session_key="other"),
        replace(REQUEST, tenant="bob"),
        WARM,
        replace(REQUEST, session_key=""),
    ]
    for request in others:
        assert (await open_and_wait(store, request)).evidence is None


async def test_a_request_without_a_session_key_leaves_counts_alone(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    await leave(store, replace(REQUEST, session_key=""))
    assert server.client.keys("ss1:sess:*") == []
    carried = await open_and_wait(make_store("cell-b"))
    assert carried.priors is not None and carried.priors.task == COUNTS


async def test_a_plain_request_leaves_nothing(make_store: MakeStore, server: RedisServer) -> None:
    await leave(make_store(), replace(REQUEST, wished=PLAIN_DECISION))
    assert server.client.keys("*") == []


async def test_without_a_redis_every_call_is_the_same_and_nothing_is_kept(
    make_store: MakeStore,
) -> None:
    store = make_store(url="")
    store.start()
    session = store.open(REQUEST)
    assert await session.carried() == Carried()
    store.note(session, EVIDENCE, COUNTS)
    store.close_session(session, EVIDENCE, COUNTS)
    assert store.arms_of(session) == Arms()
    assert await store.read_costs() == {}
    assert not store.is_degraded


async def test_a_stopped_redis_holds_an_opening_up_for_its_deadline_alone(
    make_store: MakeStore, server: RedisServer
) -> None:
    """Nothing but the deadline can answer: every other wait is longer than the bound."""
    store = make_store(claim_timeout_ms=5)
    server.process.send_signal(signal.SIGSTOP)
    try:
        session = store.open(REQUEST)
        assert await asyncio.wait_for(session.carried(), BOUND_S) == Carried()
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert session.stored is not None and session.stored.epoch is None
    assert (await session.carried(BOUND_S)).priors is not None
    assert session.stored.epoch is not None, "the claim goes on in the background"
    store.close_session(session, EVIDENCE, COUNTS)
    assert store.traffic is not None
    await store.traffic.flush()
    assert (await open_and_wait(make_store("cell-b"))).evidence == EVIDENCE


async def test_a_killed_redis_costs_nothing_but_what_it_knew(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    await leave(store)
    server.kill()
    for turn in range(2, 5):
        carried = await open_and_wait(store)
        if turn > 2:
            # Left by the turn before, on this cell; Redis was away even then.
            assert carried.evidence is not None
            assert carried.evidence.num_rounds == 10 * (turn - 2)
        await leave(store)
    assert store.is_degraded
    server.start()
    assert store.traffic is not None
    clock.now_s += store.traffic.store.wait_s
    await store.traffic.flush()
    assert not store.is_degraded
    carried = await open_and_wait(make_store("cell-b"))
    assert carried.evidence is not None and carried.evidence.num_rounds == 30
    # The first turn's went with the server; those of three turns were summed up meanwhile.
    assert carried.priors is not None
    assert carried.priors.tenant == {name: 3 * count for name, count in COUNTS.items()}
    assert server.client.exists(*server.client.keys("ss1:done:*")) <= 3


async def test_counts_of_running_sessions_are_added_every_minute(
    make_store: MakeStore, clock: Clock
) -> None:
    store = make_store()
    assert store.traffic is not None
    session = store.open(REQUEST)
    for _ in range(5):
        store.note(session, EVIDENCE, COUNTS)
        await store.traffic.flush()
    results = store.traffic.store.counters.results
    assert results["add_prior", Outcome.DONE] == 0
    clock.now_s += 60
    await store.traffic.flush()
    assert results["add_prior", Outcome.DONE] == 1
    carried = await open_and_wait(make_store("cell-b"))
    assert carried.priors is not None and carried.priors.task["r:2:1"] == 50


async def test_counts_that_redis_did_not_take_are_tried_as_soon_as_it_may_be_back(
    make_store: MakeStore, server: RedisServer, clock: Clock
) -> None:
    store = make_store()
    assert store.traffic is not None
    session = store.open(replace(REQUEST, session_key=""))
    await session.carried()
    server.kill()
    store.close_session(session, None, COUNTS)
    await store.traffic.flush()
    assert store.traffic.store.counters.results["add_prior", Outcome.DOWN] == 1
    server.start()
    clock.now_s += store.traffic.store.wait_s
    await store.traffic.flush()
    carried = await open_and_wait(make_store("cell-b"))
    assert carried.priors is not None and carried.priors.task == COUNTS


async def test_everything_is_written_in_the_background_once_it_is_started(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    store.start()
    session = store.open(REQUEST)
    store.close_session(session, EVIDENCE, COUNTS)
    await poll_until(lambda: server.client.exists(live_name(CellId("cell-a"))))
    await poll_until(lambda: server.client.keys("ss1:prior:*"))
    await poll_until(lambda: server.client.hget(server.client.keys("ss1:sess:*")[0], "hz"))


async def test_closing_writes_what_still_waits(make_store: MakeStore) -> None:
    store = make_store()
    session = store.open(REQUEST)
    store.close_session(session, EVIDENCE, COUNTS)
    await store.close()
    carried = await open_and_wait(make_store("cell-b"))
    assert carried.evidence == EVIDENCE
    assert carried.priors is not None and carried.priors.task == COUNTS


async def test_priors_at_hand_are_given_without_asking(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    await leave(store)
    request = replace(REQUEST, session_key="")
    first = await open_and_wait(store, request)
    assert store.traffic is not None
    num_reads = store.traffic.store.counters.results["read_prior", Outcome.DONE]
    assert await open_and_wait(store, request) == first
    assert store.traffic.store.counters.results["read_prior", Outcome.DONE] == num_reads


async def test_an_operators_kill_switch_reaches_running_sessions(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    session = store.open(REQUEST)
    await poll_until(
        lambda: store.traffic and store.traffic.store.counters.results["read_arms", Outcome.DONE]
    )
    assert store.arms_of(session).is_enabled
    server.client.set(arms_name(session.key.mk), json.dumps({"version": 2, "enabled": False}))
    store.start()
    await poll_until(lambda: not store.arms_of(session).is_enabled)
    server.client.set(arms_name(session.key.mk), "{")
    assert store.traffic is not None
    await store.traffic.store.read_arms(session.key.mk)
    assert not store.arms_of(session).is_enabled, "what cannot be read changes nothing"


async def test_costs_are_merged_and_read_by_equal_machines(make_store: MakeStore) -> None:
    cost = CostCell(100.0, 4.0, 30, 1)
    store = make_store(hardware_key="hk", read_costs=lambda: {"h": cost})
    store.start()
    other = make_store("cell-b", hardware_key="hk")

    async def is_there() -> bool:
        return bool(await other.read_costs())

    await poll_until(is_there)
    assert (await other.read_costs())["h"].mean_us == pytest.approx(100.0)
    assert await make_store("cell-c", hardware_key="hk-b").read_costs() == {}
    assert await make_store("cell-d").read_costs() == {}
