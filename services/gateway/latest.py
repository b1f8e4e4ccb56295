"""One reading for all who ask at about the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Latest(Generic[KeyT, ValueT]):
    """Readings that are given again while they are young, so that many askers cost as one."""

    def __init__(self, read: Callable[[KeyT], Awaitable[ValueT]], max_age_s: float) -> None:
        """Take what reads the value of a key; nothing is read yet."""
        self._read = read
        self._max_age_s = max_age_s
        self._readings: dict[KeyT, tuple[float, asyncio.Future[ValueT]]] = {}

    async def get(self, key: KeyT) -> ValueT:
        """Return the value of a key; one asker's going away does not end the others' reading."""
        now_s = monotonic()
        self._readings = {
            each: (began_s, reading)
            for each, (began_s, reading) in self._readings.items()
            if not reading.done() or now_s - began_s < self._max_age_s
        }
        if key not in self._readings:
            self._readings[key] = now_s, asyncio.ensure_future(self._read(key))
        return await asyncio.shield(self._readings[key][1])
