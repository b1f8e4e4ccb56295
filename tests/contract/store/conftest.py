"""A Redis of its own for each test, and stores whose time passes when told to."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from shared.control.store.keys import DAY_MS
from shared.control.store.session_state import SessionState
from shared.control.store.store import ControlStore
from shared.settings import RedisSettings
from tests.redis_server import RedisServer

DAY = 20_000
MK = "mk-a"


class Clock:
    """Both times of a store: seconds since its start, ms since 1970."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def now_ms(self) -> int:
        """Ms since 1970."""
        return DAY * DAY_MS + round(self.now_s * 1000)


MakeStore = Callable[..., ControlStore]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def settings(server: RedisServer) -> RedisSettings:
    """Times that no answer of a busy machine exceeds."""
    return RedisSettings(url=server.url, write_timeout_ms=30_000, socket_timeout_ms=30_000)


@pytest.fixture
def clock() -> Clock:
    """The time of all stores of a test, unless it makes others."""
    return Clock()


@pytest.fixture
async def make_store(settings: RedisSettings, clock: Clock) -> AsyncIterator[MakeStore]:
    """Make stores, which are closed at the end."""
    async with AsyncExitStack() as stack:

        def make(clock: Clock = clock, **options: Any) -> ControlStore:
            store = ControlStore(settings.model_copy(update=options), clock.now_ms, clock)
            stack.push_async_callback(store.close)
            return store

        yield make


def state_of(*, mk: str = MK, num_rounds: int = 1, evidence: bytes = b"\x00\xff") -> SessionState:
    """Return a state that is told from others by its rounds."""
    return SessionState(
        mk=mk,
        method="layerskip",
        exit_layer=3,
        max_draft_len=4,
        stop_threshold=0.25,
        is_on=True,
        evidence=evidence,
        num_positions=10 * num_rounds,
        num_rounds=num_rounds,
        num_drafted=4 * num_rounds,
        num_accepted=3 * num_rounds,
        saved_ms=7,
    )
