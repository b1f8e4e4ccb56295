"""A Redis that may be away: tries give an outcome, never an exception, and are not made in vain.

Three failures in a row open a breaker, for 1 s, doubling to 30 s; meanwhile every try is `DOWN` at
once. A server that answers but takes no writes counts as down, too. Knows nothing of what is
stored.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from shared.control.breaker import Breaker
from shared.settings import RedisSettings

log = logging.getLogger(__name__)

MAX_FAILURES = 3
OPEN_S = 1.0
MAX_OPEN_S = 30.0
MAX_CONNECTIONS = 16
ResultT = TypeVar("ResultT")
# What Redis says of one key's content: nothing about its own state. All else (LOADING, READONLY,
# OOM, NOPERM, MISCONF, ...) says that it cannot serve now; inside a script's error, such words do
# not come first, and the library then has no class for them.
_FAULTS_OF_A_KEY = ("WRONGTYPE", "not an integer", "would overflow")


class Outcome(StrEnum):
    """What came of one try."""

    DONE = "done"
    # Counted before: as good as done.
    DUPLICATE = "duplicate"
    # Another owner has the session, or a newer version of this software.
    STALE = "stale"
    # What is stored there is not what it should be; another try would find the same.
    REFUSED = "refused"
    # No answer in time, none at all, or a server that cannot serve now.
    DOWN = "down"


@dataclass(slots=True)
class StoreCounters:
    """What was tried since the start, by operation; for metrics."""

    results: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    # Time until the answer, or until none was waited for; skipped tries take none.
    elapsed_us: Counter[str] = field(default_factory=Counter)


class GuardedRedis:
    """One client's way to Redis."""

    def __init__(self, settings: RedisSettings, clock: Callable[[], float] = monotonic) -> None:
        """Take the settings, whose URL must be set; connects at the first try.

        clock: seconds that never go back.
        """
        pool = BlockingConnectionPool.from_url(
            settings.url,
            max_connections=MAX_CONNECTIONS,
            timeout=settings.write_timeout_ms / 1000,
            socket_timeout=settings.write_timeout_ms / 1000,
            socket_connect_timeout=settings.socket_timeout_ms / 1000,
            # The caller's next try is the retry; the library's own would wait for seconds.
            retry=Retry(NoBackoff(), 0),
        )
        self.redis: Redis = Redis.from_pool(pool)
        self.counters = StoreCounters()
        self._clock = clock
        self._breaker = Breaker(clock, MAX_FAILURES, OPEN_S, MAX_OPEN_S)
        self._is_up = True

    @property
    def is_degraded(self) -> bool:
        """Whether Redis was away for several tries and has not answered since."""
        return self._breaker.is_open

    @property
    def wait_s(self) -> float:
        """Time until the next try has a chance; 0 for now."""
        return self._breaker.wait_s

    async def attempt(
        self, operation: str, command: Callable[[], Awaitable[ResultT]]
    ) -> ResultT | Outcome:
        """Run a command once.

        Args:
            operation: what the try is counted as.
            command: calls Redis and reads its answer; raises ValueError where that is not what it
                should be. It may return an outcome itself.

        Returns:
            The command's result, or DOWN or REFUSED.
        """
        if self._breaker.wait_s > 0:
            return self._count(operation, Outcome.DOWN)
        self._breaker.begin()
        started_s = self._clock()
        try:
            result = await command()
        except (ResponseError, ValueError) as error:
            if isinstance(error, ResponseError) and not _is_fault_of_a_key(error):
                return self._note_down(operation, error)
            self._note_up()
            log.warning("redis holds what it should not", extra=_told(operation, error))
            return self._count(operation, Outcome.REFUSED)
        except (RedisError, OSError) as error:
            return self._note_down(operation, error)
        except Exception:
            # A bug, here or in the library; it must not reach a session.
            log.exception("redis operation failed", extra={"operation": operation})
            self._breaker.fail()
            return self._count(operation, Outcome.DOWN)
        else:
            self._note_up()
            self._count(operation, result if isinstance(result, Outcome) else Outcome.DONE)
            return result
        finally:
            self._breaker.give_up()
            self.counters.elapsed_us[operation] += round((self._clock() - started_s) * 1e6)

    async def close(self) -> None:
        """Close the connections."""
        await self.redis.aclose(close_connection_pool=True)

    def _count(self, operation: str, outcome: Outcome) -> Outcome:
        self.counters.results[operation, outcome] += 1
        return outcome

    def _note_up(self) -> None:
        self._breaker.succeed()
        if not self._is_up:
            log.info("redis back", extra={"user": "control store"})
        self._is_up = True

    def _note_down(self, operation: str, error: Exception) -> Outcome:
        self._breaker.fail()
        if self._is_up:
            log.warning("redis lost", extra=_told(operation, error))
        self._is_up = False
        return self._count(operation, Outcome.DOWN)


def _is_fault_of_a_key(error: ResponseError) -> bool:
    return any(fault in str(error) for fault in _FAULTS_OF_A_KEY)


def _told(operation: str, error: Exception) -> dict[str, str]:
    return {"user": "control store", "operation": operation, "error": str(error)}
