"""The periodic task: runs on over failures, and ends when it is told to."""

import asyncio

import pytest

from shared.control.periodic import PeriodicTask
from tests.polling import poll_until

pytestmark = pytest.mark.asyncio


async def test_a_failing_action_is_logged_and_run_again(caplog: pytest.LogCaptureFixture) -> None:
    num_runs = 0

    async def fail() -> None:
        nonlocal num_runs
        num_runs += 1
        raise RuntimeError("no luck")

    task = PeriodicTask(1, fail)
    task.start()
    await poll_until(lambda: num_runs >= 3)
    await task.stop()
    assert "periodic task failed" in caplog.text


async def test_an_action_that_swallows_its_cancellation_is_ended_nevertheless() -> None:
    is_running = asyncio.Event()
    num_runs = 0

    async def swallow() -> None:
        nonlocal num_runs
        num_runs += 1
        is_running.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            # As a client does whose own timeout strikes at the same moment.
            return

    task = PeriodicTask(1, swallow)
    task.start()
    await is_running.wait()
    await asyncio.wait_for(task.stop(), 10)
    assert num_runs == 1


async def test_a_stopped_task_may_be_started_again() -> None:
    runs: list[int] = []

    async def count() -> None:
        runs.append(len(runs))

    task = PeriodicTask(1, count)
    task.start()
    await poll_until(lambda: len(runs) >= 2)
    await task.stop()
    num_before = len(runs)
    task.start()
    await poll_until(lambda: len(runs) > num_before)
    await task.stop()
