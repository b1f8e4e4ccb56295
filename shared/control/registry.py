"""The registry of cells: who can be routed to, as leases in Redis.

A verify worker publishes its cell under `shortstack:v1:cell:{cell_id}` with a time to live and
renews it; a worker that stops renewing is forgotten without anyone's doing. Gateways read all
leases once a second. Knows nothing of requests or routing, and nobody ever waits for it: readers
look at the last known cells, and a Redis that is slow, down or flushed is logged when that begins
and when it ends, nothing more.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from time import monotonic
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.control.periodic import PeriodicTask
from shared.ids import BootId, CellId, WorkerId
from shared.settings import RedisSettings

log = logging.getLogger(__name__)

KEY_PREFIX = "shortstack:v1:cell:"
REFRESH_MS = 1000
ResultT = TypeVar("ResultT")
# Only who wrote a lease takes it back: the worker's next boot may have its own by now.
_DELETE_IF_EQUAL = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(frozen=True, slots=True)
class CellLease:
    """One cell's right to be routed to, and its load when it was last renewed."""

    cell_id: CellId
    worker_id: WorkerId
    boot_id: BootId
    address: str
    model_name: str
    model_fingerprint: str
    num_sessions: int
    max_sessions: int
    num_free_pages: int
    num_draft_workers: int
    is_draining: bool = False

    @property
    def key(self) -> str:
        """Name of the lease in Redis."""
        return KEY_PREFIX + self.cell_id

    def to_json(self) -> str:
        """Return the lease as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> "CellLease":
        """Read a lease; fields of newer versions are left out.

        Raises:
            ValueError: it is no lease, or one without a field that is needed.
        """
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError(f"a lease is an object, not {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{name: value for name, value in values.items() if name in known})
        except TypeError as error:
            raise ValueError(str(error)) from None


class LeasePublisher:
    """Keeps the lease of this process's cell alive, in the background.

    With no URL in the settings nothing is published: gateways then need the cell's address.
    """

    def __init__(self, settings: RedisSettings, read_lease: Callable[[], CellLease]) -> None:
        """Take the settings and what tells the lease as it is now; connects in `start`."""
        self._settings = settings
        self._read_lease = read_lease
        self._redis = _Store(settings, "lease publisher") if settings.url else None
        self._published: CellLease | None = None
        self._task = PeriodicTask(settings.renew_ms, self.publish)

    def start(self) -> None:
        """Publish now and then every `renew_ms`, until `withdraw`."""
        if self._redis:
            self._task.start()

    async def publish(self) -> bool:
        """Publish once; return whether Redis took it. Needed only where a renewal cannot wait."""
        if not self._redis:
            return False
        self._published = lease = self._read_lease()
        ttl_ms = self._settings.lease_ttl_ms

        async def write(redis: Redis) -> bool:
            return bool(await redis.set(lease.key, lease.to_json(), px=ttl_ms))

        return await self._redis.attempt(write) or False

    async def withdraw(self) -> None:
        """Stop renewing and delete the lease; what Redis cannot delete now expires by itself."""
        await self._task.stop()
        lease, self._published = self._published, None
        if not self._redis:
            return
        if lease:

            async def delete(redis: Redis) -> int:
                script = redis.register_script(_DELETE_IF_EQUAL)
                return int(await script(keys=[lease.key], args=[lease.to_json()]))

            await self._redis.attempt(delete)
        await self._redis.close()


class CellDirectory:
    """The last known cells, refreshed in the background.

    While Redis is down they stay as they were. They stay for one lease time, too, when all are
    gone at once: that is a flushed or restarted Redis, to which the workers have yet to renew.
    """

    def __init__(self, settings: RedisSettings, *, refresh_ms: int = REFRESH_MS) -> None:
        """Take the settings, whose URL must be set; connects in `start`."""
        self._redis = _Store(settings, "cell directory")
        self._grace_s = settings.lease_ttl_ms / 1000
        self._cells: tuple[CellLease, ...] = ()
        self._seen_at = monotonic()
        self._task = PeriodicTask(refresh_ms, self.refresh)

    @property
    def cells(self) -> tuple[CellLease, ...]:
        """The last known cells by id; never waits."""
        return self._cells

    async def start(self) -> None:
        """Read the cells once and go on in the background."""
        await self.refresh()
        self._task.start()

    async def stop(self) -> None:
        """End the background reading."""
        await self._task.stop()
        await self._redis.close()

    async def refresh(self) -> None:
        """Read all leases once; on failure the last known cells stay."""
        values = await self._redis.attempt(_read_leases)
        if values is None:
            return
        cells = [lease for lease in map(_parse, values) if lease]
        now = monotonic()
        if not cells and now - self._seen_at < self._grace_s:
            return
        self._cells = tuple(sorted(cells, key=lambda lease: lease.cell_id))
        if cells:
            self._seen_at = now


async def _read_leases(redis: Redis) -> list[str]:
    keys = [key async for key in redis.scan_iter(match=KEY_PREFIX + "*", count=1000)]
    values = await redis.mget(keys) if keys else []
    return [str(value) for value in values if value is not None]


def _parse(line: str) -> CellLease | None:
    try:
        return CellLease.from_json(line)
    except ValueError as error:
        log.warning("lease left out", extra={"error": str(error)})
        return None


class _Store:
    """A Redis that may be away: attempts never raise, and only changes of its state are logged."""

    def __init__(self, settings: RedisSettings, name: str) -> None:
        timeout_s = settings.socket_timeout_ms / 1000
        self._redis: Redis = Redis.from_url(
            settings.url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            decode_responses=True,
            # The next attempt is the retry; the library's own would wait for seconds.
            retry=Retry(NoBackoff(), 0),
        )
        self._name = name
        self._is_up = True

    async def attempt(self, command: Callable[[Redis], Awaitable[ResultT]]) -> ResultT | None:
        """Run a command; None when Redis did not answer in time or refused."""
        try:
            result = await command(self._redis)
        except (RedisError, OSError) as error:
            if self._is_up:
                log.warning("redis lost", extra={"user": self._name, "error": str(error)})
            self._is_up = False
            return None
        if not self._is_up:
            log.info("redis back", extra={"user": self._name})
        self._is_up = True
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
