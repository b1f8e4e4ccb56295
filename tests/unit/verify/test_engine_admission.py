"""The engine's door: queue, drain, refusals, pauses, sessions told to move."""

import asyncio

from services.verify.events import MoveAll, Wake
from services.verify.pages import pool_state
from services.verify.session import Moved
from shared.errors import InvalidRequest, QueueFull, WorkerDraining
from shared.model.layer_stack import LayerStack
from shared.speculation.vocabulary import FinishReason
from tests.engine_harness import (
    EngineHarness,
    HarnessOptions,
    PlainCell,
    Recorded,
    make_request,
)
from tests.polling import poll_until
from tests.unit.verify.builders import WISHED


class Reader:
    """A client that has not read anything yet."""

    def __init__(self) -> None:
        self.num_unread = 1 << 30

    def __call__(self) -> int:
        """Return the tokens it has not read."""
        return self.num_unread


async def run_to_end(recorded: Recorded) -> Recorded:
    return await asyncio.to_thread(recorded.wait)


async def test_a_full_queue_refuses_with_a_retry_delay(stack: LayerStack) -> None:
    options = HarnessOptions(max_sessions=1, max_waiting=1)
    with EngineHarness(stack, PlainCell, options) as cell:
        blocked = Reader()
        running = cell.open(make_request([5, 6], 5, session_id="running"), blocked)
        await poll_until(lambda: running.was_started)
        waiting = cell.open(make_request([5, 6], 5, session_id="waiting"))
        refused = await run_to_end(cell.open(make_request([5, 6], 5, session_id="refused")))
        assert isinstance(refused.error, QueueFull)
        assert refused.error.retry_delay_ms > 0
        assert len(cell.engine.roster) == 2
        blocked.num_unread = 0
        cell.engine.post(Wake())
        for recorded in (running, waiting):
            assert len((await run_to_end(recorded)).token_ids) == 5


async def test_a_queue_of_length_zero_still_serves_what_there_is_room_for(
    stack: LayerStack,
) -> None:
    options = HarnessOptions(max_sessions=2, max_waiting=0)
    with EngineHarness(stack, PlainCell, options) as cell:
        for index in range(3):
            recorded = cell.open(make_request([5, 6], 3, session_id=f"s{index}"))
            assert len((await run_to_end(recorded)).token_ids) == 3


async def test_what_can_never_fit_is_refused_at_once(stack: LayerStack) -> None:
    with EngineHarness(stack, PlainCell, HarnessOptions(num_pages=2, page_size=4)) as cell:
        refused = await run_to_end(cell.open(make_request([5, 6], 50)))
        assert isinstance(refused.error, InvalidRequest)
        assert refused.error.field == "stop.max_new_tokens"
        assert len((await run_to_end(cell.open(make_request([5, 6], 6)))).token_ids) == 6


async def test_a_draining_engine_finishes_what_it_has_and_takes_no_more(
    stack: LayerStack,
) -> None:
    with EngineHarness(stack, PlainCell) as cell:
        blocked = Reader()
        running = cell.open(make_request([5, 6], 5), blocked)
        await poll_until(lambda: running.was_started)
        cell.roster.is_draining = True
        refused = await run_to_end(cell.open(make_request([5, 6], 5)))
        assert isinstance(refused.error, WorkerDraining)
        blocked.num_unread = 0
        cell.engine.post(Wake())
        assert (await run_to_end(running)).reason is FinishReason.LENGTH


async def test_sessions_told_to_move_give_their_pages_back(stack: LayerStack) -> None:
    with EngineHarness(stack, PlainCell, HarnessOptions(max_sessions=1)) as cell:
        running = cell.open(make_request([5, 6], 20, session_id="running"), Reader())
        waiting = cell.open(make_request([5, 6], 20, session_id="waiting"))
        await poll_until(lambda: running.was_started)
        cell.engine.post(MoveAll("shutting down"))
        for recorded in (running, waiting):
            await run_to_end(recorded)
            assert Moved("shutting down") in recorded.events
        await poll_until(lambda: len(cell.engine.roster) == 0)
        assert pool_state(cell.memory)["num_used"] == 0


async def test_a_session_whose_client_does_not_read_is_paused_and_others_go_on(
    stack: LayerStack,
) -> None:
    options = HarnessOptions(max_unread=4)
    with EngineHarness(stack, options=options) as cell:
        reader = Reader()
        paused = cell.open(make_request([5, 6], 20, session_id="paused", wished=WISHED), reader)
        quick = cell.open(make_request([5, 6], 20, session_id="quick", wished=WISHED))
        await run_to_end(quick)
        assert len(paused.token_ids) == 1, "the prefill's own token"
        reader.num_unread = 0
        cell.engine.post(Wake())
        assert (await run_to_end(paused)).token_ids == quick.token_ids


async def test_figures_for_the_info_call_sum_up(stack: LayerStack) -> None:
    with EngineHarness(stack) as cell:
        await run_to_end(cell.open(make_request([5, 6], 20, wished=WISHED)))
        await poll_until(lambda: pool_state(cell.memory)["num_used"] == 0)
        state = pool_state(cell.memory)
        parts = ("num_free", "num_used", "num_quarantined", "num_cached")
        assert state["num_pages"] == sum(state[name] for name in parts)
        assert cell.roster.summary.num_drafts > 0


def test_a_dead_engine_reports_its_error(stack: LayerStack) -> None:
    cell = EngineHarness(stack, PlainCell)
    cell.engine.start(cell.rounds)
    recorded = cell.open(make_request([10_000], 5))
    recorded.done.wait(10)
    cell.engine.stop()
    cell.pool.close()
    assert cell.failures and isinstance(cell.failures[0], IndexError)
