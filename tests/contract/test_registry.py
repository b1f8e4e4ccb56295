"""The registry of cells on a real Redis: leases live while they are renewed, faults are quiet."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from shared.control.registry import KEY_PREFIX, CellDirectory, CellLease, LeasePublisher
from shared.ids import BootId, CellId, WorkerId
from shared.settings import RedisSettings
from tests.polling import poll_until
from tests.redis_server import RedisServer

LEASE = CellLease(
    cell_id=CellId("cell-a"),
    worker_id=WorkerId("verify-a"),
    boot_id=BootId(2**62 + 1),
    address="unix:/run/a.sock",
    model_name="small",
    model_fingerprint="f",
    num_sessions=1,
    max_sessions=8,
    num_free_pages=10,
    num_draft_workers=1,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own for each test."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def settings(server: RedisServer) -> RedisSettings:
    """Short times, so that tests are."""
    return RedisSettings(url=server.url, lease_ttl_ms=500, renew_ms=100)


async def test_a_lease_is_published_found_and_withdrawn(settings: RedisSettings) -> None:
    publisher = LeasePublisher(settings, lambda: LEASE)
    directory = CellDirectory(settings, refresh_ms=20)
    publisher.start()
    await directory.start()
    await poll_until(lambda: directory.cells == (LEASE,))
    await publisher.withdraw()
    await poll_until(lambda: directory.cells == ())
    await directory.stop()


async def test_a_lease_is_renewed_with_what_the_cell_says_now(settings: RedisSettings) -> None:
    now = [LEASE]
    publisher = LeasePublisher(settings, lambda: now[0])
    directory = CellDirectory(settings, refresh_ms=20)
    publisher.start()
    await directory.start()
    now[0] = replace(LEASE, num_sessions=5, is_draining=True)
    await poll_until(lambda: directory.cells == (now[0],))
    await publisher.withdraw()
    await directory.stop()


async def test_a_lease_that_is_not_renewed_expires(
    settings: RedisSettings, server: RedisServer
) -> None:
    publisher = LeasePublisher(settings, lambda: LEASE)
    assert await publisher.publish()
    assert 0 < server.client.pttl(LEASE.key) <= settings.lease_ttl_ms
    await poll_until(lambda: not server.client.exists(LEASE.key))
    directory = CellDirectory(settings)
    await directory.refresh()
    assert directory.cells == ()
    await directory.stop()
    await publisher.withdraw()


async def test_a_worker_withdraws_its_own_lease_and_not_that_of_its_next_boot(
    settings: RedisSettings, server: RedisServer
) -> None:
    old = LeasePublisher(settings, lambda: LEASE)
    new = LeasePublisher(settings, lambda: replace(LEASE, boot_id=BootId(7)))
    await old.publish()
    await new.publish()
    await old.withdraw()
    assert server.client.exists(LEASE.key)
    await new.withdraw()
    assert not server.client.exists(LEASE.key)


async def test_redis_killed_and_restarted_is_no_error_and_no_wait(
    settings: RedisSettings, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    publisher = LeasePublisher(settings, lambda: LEASE)
    directory = CellDirectory(settings, refresh_ms=20)
    publisher.start()
    await directory.start()
    await poll_until(lambda: directory.cells == (LEASE,))
    server.kill()
    await poll_until(lambda: _events(caplog).count("redis lost") == 2)
    started = monotonic()
    for _ in range(3):
        assert not await publisher.publish()
        await directory.refresh()
    assert monotonic() - started < 1.0
    assert directory.cells == (LEASE,)
    server.start()
    await poll_until(lambda: server.client.exists(LEASE.key))
    await poll_until(lambda: _events(caplog).count("redis back") == 2)
    assert directory.cells == (LEASE,)
    assert _events(caplog).count("redis lost") == 2
    await publisher.withdraw()
    await directory.stop()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_redis_that_hangs_is_waited_for_no_longer_than_the_timeout(
    settings: RedisSettings, server: RedisServer
) -> None:
    publisher = LeasePublisher(settings, lambda: LEASE)
    assert await publisher.publish()
    server.process.send_signal(signal.SIGSTOP)
    started = monotonic()
    assert not await publisher.publish()
    assert monotonic() - started < 1.0
    server.process.send_signal(signal.SIGCONT)
    await publisher.withdraw()


async def test_a_flushed_redis_does_not_empty_the_directory(
    settings: RedisSettings, server: RedisServer
) -> None:
    publisher = LeasePublisher(settings, lambda: LEASE)
    directory = CellDirectory(settings)
    await publisher.publish()
    await directory.refresh()
    server.client.flushall()
    await directory.refresh()
    assert directory.cells == (LEASE,)
    await asyncio.gather(publisher.withdraw(), directory.stop())


async def test_what_is_no_lease_is_left_out(settings: RedisSettings, server: RedisServer) -> None:
    server.client.set(KEY_PREFIX + "garbled", "{")
    server.client.set(KEY_PREFIX + "other", "[]")
    server.client.set(KEY_PREFIX + "short", '{"cell_id": "x"}')
    newer = LEASE.to_json().replace("{", '{"field_of_tomorrow": 1, ', 1)
    server.client.set(LEASE.key, newer)
    directory = CellDirectory(settings)
    await directory.refresh()
    assert directory.cells == (LEASE,)
    await directory.stop()


async def test_without_a_url_nothing_is_published() -> None:
    publisher = LeasePublisher(RedisSettings(), lambda: LEASE)
    publisher.start()
    assert not await publisher.publish()
    await publisher.withdraw()


def _events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]
