"""Faults in the middle of streams: the text stays that of plain decoding, and no page is lost."""

import asyncio
import signal
from dataclasses import replace

import pytest

from shared.errors import ShortstackError
from shortstack.client import Client
from shortstack.health import SPECULATION, is_serving, verify_info
from shortstack.plan import StackConfig
from shortstack.stack import Stack
from tests.cluster.streams import Streams, fresh, ids_of, make_requests, run_plain, total
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def pages_are_back(stack: Stack) -> bool:
    """Return whether no page of any cell is in use or set aside."""
    infos = [await verify_info(cell.verify_target) for cell in stack.cells]
    return all(info.pool.num_free + info.pool.num_cached == info.pool.num_pages for info in infos)


async def start_streams(client: Client, num: int) -> Streams:
    """Start requests; return when all of them are under way."""
    streams = Streams(client, make_requests(num))
    streams.start()
    await poll_until(lambda: streams.are_all_running, timeout_s=60)
    return streams


async def test_a_killed_draft_worker_costs_speed_only(
    healthy_stack: Stack, shared_client: Client
) -> None:
    stack, client = healthy_stack, shared_client
    expected = await run_plain(client, make_requests(8))
    streams = await start_streams(client, 8)
    stack.children["draft-0"].send(signal.SIGKILL)
    completions = await streams.finish()
    assert ids_of(completions) == expected
    assert total(completions, lambda each: each.speculation.num_drafts) > 0
    assert total(completions, lambda each: each.speculation.num_plain_rounds) > 0
    await poll_until(lambda: pages_are_back(stack))

    stack.restart("draft-0")
    target = stack.cells[0].verify_target
    await poll_until(lambda: is_serving(target, SPECULATION), timeout_s=60)
    again = Streams(client, [fresh(request) for request in make_requests(2)])
    again.start()
    completions = await again.finish()
    assert ids_of(completions) == expected[:2]
    assert total(completions, lambda each: each.speculation.num_drafts) > 0


async def test_a_stalled_draft_worker_is_fenced_off(
    healthy_stack: Stack, shared_client: Client
) -> None:
    stack, client = healthy_stack, shared_client
    expected = await run_plain(client, make_requests(8))
    streams = await start_streams(client, 8)
    stack.children["draft-0"].send(signal.SIGSTOP)
    completions = await streams.finish()
    stack.children["draft-0"].send(signal.SIGCONT)
    assert ids_of(completions) == expected
    # What the stalled worker might still write to is set aside until it has answered.
    await poll_until(lambda: pages_are_back(stack), timeout_s=20)


async def test_cancelled_streams_give_their_pages_back(
    healthy_stack: Stack, shared_client: Client
) -> None:
    stack, client = healthy_stack, shared_client
    expected = await run_plain(client, make_requests(8))
    streams = await start_streams(client, 8)
    for task in streams.tasks[::2]:
        task.cancel()
    for request in streams.requests[1:2]:
        assert await client.cancel(request.request_id)
    kept = await asyncio.gather(*streams.tasks[3::2])
    assert ids_of(kept) == expected[3::2]
    cut = (await streams.tasks[1]).token_ids
    assert cut == expected[1][: len(cut)] and len(cut) < len(expected[1])
    await poll_until(lambda: pages_are_back(stack))


async def test_sessions_of_a_killed_verify_worker_are_replayed(config: StackConfig) -> None:
    async with Stack(replace(config, num_cells=2)) as stack, Client(stack.target) as client:
        expected = await run_plain(client, make_requests(8))
        streams = await start_streams(client, 8)
        cells = {builder.started.cell_id for builder in streams.builders if builder.started}
        lost = min(cells)
        stack.children[f"verify-{lost.removeprefix('cell-')}"].send(signal.SIGKILL)
        completions = await streams.finish()
        assert ids_of(completions) == expected
        assert total(completions, lambda each: each.finished.num_replays) > 0


async def test_without_another_cell_a_lost_one_is_an_error_until_it_is_back(
    healthy_stack: Stack, shared_client: Client
) -> None:
    stack, client = healthy_stack, shared_client
    streams = await start_streams(client, 2)
    stack.children["verify-0"].send(signal.SIGKILL)
    for task in streams.tasks:
        with pytest.raises(ShortstackError) as raised:
            await task
        assert raised.value.status == "UNAVAILABLE"

    await poll_until(lambda: stack.children["verify-0"].exit_status is not None)
    stack.restart("verify-0")

    async def serves_again() -> bool:
        infos = [info.num_draft_workers for info in (await client.models()).cells]
        target = stack.cells[0].verify_target
        return infos == [1] and await is_serving(target, SPECULATION)

    await poll_until(serves_again, timeout_s=90, period_s=0.2)
    requests = make_requests(2)
    expected = await run_plain(client, requests)
    completions = await asyncio.gather(*map(client.complete, requests))
    assert ids_of(completions) == expected
