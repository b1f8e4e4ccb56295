"""A child process that serves many streams at a time, seen from the bench."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from shortstack.bench.serve.stream_messages import (
    StreamOrder,
    StreamTokens,
    decode_stream_tokens,
    encode_message,
)
from shortstack.bench.torch_peer import ModelChoice
from shortstack.bench.torch_process import TorchProcess
from shortstack.errors import CommandError

CHILD_MODULE = "shortstack.bench.serve.child"


class StreamPeer(TorchProcess):
    """One child; use it as an async context."""

    def __init__(
        self,
        server: str,
        choice: ModelChoice,
        attention: str,
        max_cached_tokens: int,
        shares_prefixes: bool,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Say what to start; max_cached_tokens is how many tokens its KV cache must hold."""
        words = (
            *(server, *choice.words()),
            *("--attention", attention, "--max-cached-tokens", max_cached_tokens),
            *(["--share-prefixes"] if shares_prefixes else []),
        )
        super().__init__(server, CHILD_MODULE, words, environment)
        self._order_ids = itertools.count(1)
        self._open: dict[int, asyncio.Queue[StreamTokens]] = {}
        self._end = ""
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._reader = asyncio.create_task(self._read_all())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._reader is not None
        self._reader.cancel()
        with suppress(asyncio.CancelledError):
            await self._reader
        await super().__aexit__(exc_type, exc, traceback)

    async def stream(self, order: StreamOrder) -> AsyncIterator[StreamTokens]:
        """Send an order; yield its messages up to the last. A dead child is an error in it."""
        order_id = next(self._order_ids)
        if self._end:
            yield StreamTokens(order_id, is_last=True, error=self._end)
            return
        messages = self._open[order_id] = asyncio.Queue()
        self.write(encode_message(order.numbered(order_id)))
        is_last = False
        while not is_last:
            message = await messages.get()
            is_last = message.is_last
            yield message
        del self._open[order_id]

    async def _read_all(self) -> None:
        """Hand the messages out; the end of the child ends all orders."""
        while not self._end:
            try:
                message = decode_stream_tokens(await self.read())
            except CommandError as error:
                self._end = str(error)
                for order_id, messages in self._open.items():
                    messages.put_nowait(StreamTokens(order_id, is_last=True, error=self._end))
            else:
                self._open[message.order_id].put_nowait(message)
