"""ControlStore: control state in Redis, one try of every operation.

No exception leaves it and nothing is retried in it: an outcome says what came of the try, and its
callers (`write_behind`, `prior_queue`) keep what did not arrive. What Redis holds is other people's
input: what cannot be read counts as absent.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from time import monotonic
from typing import Any, TypeVar

from redis.commands.core import AsyncScript
from redis.typing import EncodableT

from shared.control.store.arms import Arms
from shared.control.store.cell_load import CellLoad
from shared.control.store.claim import Claim, read_claim
from shared.control.store.costs import MAX_SAMPLES, CostCell
from shared.control.store.guarded_redis import GuardedRedis, Outcome, StoreCounters
from shared.control.store.keys import (
    arms_name,
    cost_name,
    done_name,
    live_name,
    prior_name,
)
from shared.control.store.prior_counts import (
    DAY_WEIGHT,
    MIN_TENANT_SESSIONS,
    NUM_DAYS,
    PriorCounts,
    PriorFlush,
    PriorKey,
)
from shared.control.store.scripts import Scripts
from shared.control.store.session_state import VERSION, SessionState
from shared.ids import CellId
from shared.settings import RedisSettings

log = logging.getLogger(__name__)

PRIOR_TTL_MS = 8 * 86_400_000
DONE_TTL_MS = 600_000
COST_TTL_MS = 14 * 86_400_000
STREAM_TTL_MS = 30 * 86_400_000
# `ver` of a task stream's record. A reader leaves alone what a newer version wrote.
STREAM_VERSION = 1
LIVE_TTL_MS = 10_000
# More in one script would hold Redis up for others.
COSTS_PER_MERGE = 32
ResultT = TypeVar("ResultT")


class ControlStore:
    """What a verify worker keeps in Redis, and reads from there."""

    def __init__(
        self,
        settings: RedisSettings,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Take the settings, whose URL must be set; connects at the first try.

        now_ms: ms since 1970, as all cells tell it; clock: seconds that never go back.
        """
        self._settings = settings
        self._now_ms = now_ms
        self._guarded = GuardedRedis(settings, clock)
        self._redis = self._guarded.redis
        self._scripts = Scripts(self._redis)

    @property
    def is_degraded(self) -> bool:
        """Whether Redis is away: nothing is tried until it may be back."""
        return self._guarded.is_degraded

    @property
    def wait_s(self) -> float:
        """Time until a try has a chance; 0 for now."""
        return self._guarded.wait_s

    @property
    def counters(self) -> StoreCounters:
        """Results and times by operation."""
        return self._guarded.counters

    async def claim(self, name: str, mk: str) -> Claim | Outcome:
        """Take over a session (`keys.session_name`) for this `mk`.

        Returns:
            The claim; or STALE: a newer version of this software owns the session, and nothing was
            written; or REFUSED, DOWN.
        """
        args: list[EncodableT] = [VERSION, mk, self._now_ms(), self._settings.session_ttl_s * 1000]

        async def command() -> Claim | Outcome:
            return read_claim(await self._scripts.claim([name], args))

        return await self._attempt("claim", command)

    async def flush(self, name: str, epoch: int, seq: int, state: SessionState) -> Outcome:
        """Write a session's state.

        Args:
            name: the session's.
            epoch: of its claim.
            seq: counts the states of a claim; the same state is sent again under the same one.
            state: what is written.

        Returns:
            DONE; DUPLICATE: this or a later one is there; STALE: never write it again; or REFUSED,
            DOWN.
        """
        fields = [part for pair in state.to_fields().items() for part in pair]
        args: list[EncodableT] = [VERSION, epoch, seq, self._settings.session_ttl_s * 1000, *fields]
        return await self._attempt_script("flush", self._scripts.flush, [name], args)

    async def add_prior(self, flush: PriorFlush) -> Outcome:
        """Add counts of a day, once however often it is tried with one id.

        They are added to those of the tenant and its task, and to those of all where the settings
        let tenants do so and this one had enough sessions on that day.

        Returns:
            DONE, DUPLICATE, REFUSED or DOWN.
        """
        key, day = flush.key, flush.day
        least = MIN_TENANT_SESSIONS if self._settings.shares_priors else -1
        names = [
            done_name(key.mk, flush.flush_id),
            prior_name(key.mk, key.tenant, "", day),
            prior_name(key.mk, key.tenant, key.task_key, day),
            prior_name(key.mk, None, "", day),
        ]
        pairs = [part for pair in flush.counts.items() for part in pair]
        args = [DONE_TTL_MS, PRIOR_TTL_MS, least, *pairs]
        return await self._attempt_script("add_prior", self._scripts.add_prior, names, args)

    async def read_priors(self, key: PriorKey, day: int) -> PriorCounts | None:
        """Return the counts of the last days up to `day`; None where Redis did not tell."""
        owners: list[tuple[str | None, str]] = [(None, ""), (key.tenant, "")]
        if key.task_key:
            owners.append((key.tenant, key.task_key))
        weights = [DAY_WEIGHT**age for age in range(NUM_DAYS)]

        async def command() -> PriorCounts:
            # Level by level: one script for all would hold Redis up for others.
            levels = []
            for tenant, task_key in owners:
                names = [prior_name(key.mk, tenant, task_key, day - age) for age in range(NUM_DAYS)]
                levels.append(_read_counts(await self._scripts.read_prior(names, weights)))
            return PriorCounts(*levels)

        counts = await self._attempt("read_prior", command)
        return None if isinstance(counts, Outcome) else counts

    async def merge_cost(self, hk: str, cells: Mapping[str, CostCell]) -> Outcome:
        """Merge costs measured since the last call into those of equal machines, by field.

        A merge whose answer was lost may count twice; it only weighs a little more then.
        """
        names, outcome = [cost_name(hk)], Outcome.DONE
        for piece in _pieces(cells.items(), COSTS_PER_MERGE):
            args: list[EncodableT] = [MAX_SAMPLES, COST_TTL_MS]
            for field, cell in piece:
                args += [field, cell.mean_us, cell.variance, cell.num_samples, cell.at_ms]
            merge = self._scripts.merge_cost
            outcome = await self._attempt_script("merge_cost", merge, names, args)
            if outcome is not Outcome.DONE:
                break
        return outcome

    async def read_cost(self, hk: str) -> dict[str, CostCell] | None:
        """Return the costs of equal machines by field; None where Redis did not tell."""

        async def command() -> dict[str, CostCell]:
            return _read_costs(await self._redis.hgetall(cost_name(hk)))

        cells = await self._attempt("read_cost", command)
        return None if isinstance(cells, Outcome) else cells

    async def write_stream(self, key: str, num_evaluations: int, record: str) -> Outcome:
        """Write a task stream's record.

        Returns:
            DONE; STALE: there is one that tried more candidates, or of a newer version; or REFUSED,
            DOWN.
        """
        args: list[EncodableT] = [STREAM_VERSION, STREAM_TTL_MS, num_evaluations, record]
        return await self._attempt_script("keep_stream", self._scripts.keep_stream, [key], args)

    async def read_stream(self, key: str) -> bytes | None:
        """Return a task stream's record; None where there is none that we read, or not told."""

        async def command() -> bytes | None:
            version, record = await self._redis.hmget(key, ["ver", "record"])
            is_ours = version is not None and int(version) <= STREAM_VERSION
            return record if is_ours and isinstance(record, bytes) else None

        record = await self._attempt("read_stream", command)
        return None if isinstance(record, Outcome) else record

    async def read_arms(self, mk: str) -> Arms | None:
        """Return an operator's orders, the default ones where there are none; None: not told."""

        async def command() -> Arms:
            text = await self._redis.get(arms_name(mk))
            return Arms() if text is None else Arms.from_json(text)

        arms = await self._attempt("read_arms", command)
        return None if isinstance(arms, Outcome) else arms

    async def write_live(self, cell_id: CellId, load: CellLoad) -> Outcome:
        """Tell how a cell is doing; forgotten after 10 s without a word."""
        name = live_name(cell_id)
        fields: dict[EncodableT, EncodableT] = {
            field: value for field, value in load.to_fields().items()
        }

        async def command() -> Outcome:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(name, mapping=fields)
                pipeline.pexpire(name, LIVE_TTL_MS)
                await pipeline.execute()
            return Outcome.DONE

        return await self._attempt("write_live", command)

    async def close(self) -> None:
        """Close the connections."""
        await self._guarded.close()

    async def _attempt(
        self, operation: str, command: Callable[[], Awaitable[ResultT]]
    ) -> ResultT | Outcome:
        return await self._guarded.attempt(operation, command)

    async def _attempt_script(
        self, operation: str, script: AsyncScript, names: list[str], args: Sequence[EncodableT]
    ) -> Outcome:
        """Run a script whose answer is the name of its outcome."""

        async def command() -> Outcome:
            answer: bytes = await script(names, args)
            return Outcome(answer.decode())

        return await self._attempt(operation, command)


def _read_costs(fields: dict[Any, Any]) -> dict[str, CostCell]:
    cells = {}
    for field, text in fields.items():
        try:
            cells[field.decode()] = CostCell.from_text(text.decode())
        except ValueError as error:
            log.warning("a cost cannot be read", extra={"error": str(error)})
    return cells


def _read_counts(level: bytes) -> dict[str, int]:
    """Read one level's sums; whole, so that they add up with what is counted here."""
    return {field: round(count) for field, count in json.loads(level).items()}


def _pieces(items: Iterable[ResultT], size: int) -> Iterator[list[ResultT]]:
    """Yield items in lists of at most `size`."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece
