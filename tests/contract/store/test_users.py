"""The users that docs/redis.md proposes: each may do its work, and no more."""

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from shared.control.registry import CellDirectory, CellLease, LeasePublisher
from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import arms_name, live_name, session_name
from shared.ids import BootId, CellId, WorkerId
from shared.settings import RedisSettings
from tests.contract.store.conftest import MK, MakeStore
from tests.contract.store.test_faults import OPERATIONS
from tests.redis_server import RedisServer

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "redis.md"
LEASE = CellLease(
    CellId("c"), WorkerId("w"), BootId(1), "unix:/a", "small", "f", 0, 8, 10, 1
)  # fmt: skip


@pytest.fixture
def users(server: RedisServer) -> dict[str, Redis]:
    """Make the users of the document; return a client of each."""
    path = server.url.removeprefix("unix://")
    clients = {}
    for line in DOCUMENT.read_text("utf-8").splitlines():
        words = line.split()
        if words[:2] == ["ACL", "SETUSER"]:
            server.client.execute_command(*words)
            clients[words[2]] = Redis(
                unix_socket_path=path, username=words[2], password=f"{words[2]}-secret"
            )
    assert set(clients) == {"gateway", "verify", "operator"}
    return clients


def url_of(server: RedisServer, user: str) -> str:
    """Return the server's URL for a user."""
    path = server.url.removeprefix("unix://")
    return f"unix://{user}@{path}?password={user}-secret"


async def test_a_verify_worker_may_do_its_work(
    server: RedisServer, users: dict[str, Redis], make_store: MakeStore
) -> None:
    url = url_of(server, "verify")
    store = make_store(url=url)
    for name, operation in OPERATIONS.items():
        assert await operation(store) not in (Outcome.DOWN, Outcome.REFUSED), name
    assert not any(outcome is Outcome.DOWN for _, outcome in store.counters.results)
    publisher = LeasePublisher(RedisSettings(url=url), lambda: LEASE)
    assert await publisher.publish()
    await publisher.withdraw()
    assert not server.client.exists(LEASE.key)


async def test_a_gateway_finds_cells_and_reads_no_control_state(
    server: RedisServer, users: dict[str, Redis]
) -> None:
    server.client.set(LEASE.key, LEASE.to_json())
    directory = CellDirectory(RedisSettings(url=url_of(server, "gateway")))
    await directory.refresh()
    assert directory.cells == (LEASE,)
    await directory.stop()
    assert users["gateway"].hgetall(live_name(CellId("c"))) == {}
    with pytest.raises(NoPermissionError):
        users["gateway"].hgetall(session_name("ann", "talk"))
    with pytest.raises(NoPermissionError):
        users["gateway"].set(LEASE.key, "x")


def test_an_operator_writes_orders_alone(users: dict[str, Redis]) -> None:
    operator = users["operator"]
    assert operator.set(arms_name(MK), "{}")
    assert operator.get(arms_name(MK)) == b"{}"
    with pytest.raises(NoPermissionError):
        operator.get(session_name("ann", "talk"))
    with pytest.raises(NoPermissionError):
        operator.flushall()
