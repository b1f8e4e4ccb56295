"""A write that takes too long ends its request; any other wait does not."""

import asyncio

import pytest

from services.gateway.active import RunningRequest
from shared.ids import RequestId


async def test_a_write_that_takes_too_long_cuts_the_request_off() -> None:
    running: list[RunningRequest] = []

    async def serve() -> None:
        task = asyncio.current_task()
        assert task is not None
        running.append(RunningRequest(RequestId("mine"), task))
        with running[0].writing(0.01):
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running[0].is_slow_reader
    assert "has taken nothing for 0.01 s" in running[0].cut_off_reason


async def test_a_write_that_has_ended_is_not_watched_any_more() -> None:
    async def serve(timeout_s: float) -> RunningRequest:
        task = asyncio.current_task()
        assert task is not None
        running = RunningRequest(RequestId("mine"), task)
        with running.writing(timeout_s):
            pass
        # Timers fire in order: this one behind the one of the write.
        fired = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, fired.set)
        await fired.wait()
        return running

    assert not (await serve(0.01)).is_slow_reader
    assert not (await serve(0.0)).is_slow_reader
