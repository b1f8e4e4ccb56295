"""A socket between two peers, which can be cut, closed on one side, held, and garbled.

Knows nothing of what is said over it. What one side closes is closed towards the other, too.
"""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

MAX_CHUNK_BYTES = 1 << 16


class Link:
    """One connection through a relay."""

    def __init__(self, caller: asyncio.StreamWriter, called: asyncio.StreamWriter) -> None:
        self.caller = caller
        self.called = called

    def cut(self) -> None:
        """End it at once, both ways."""
        self.caller.transport.abort()
        self.called.transport.abort()

    def close_half(self) -> None:
        """Tell the called side that nothing more will come; its answers still pass."""
        with suppress(OSError):
            self.called.write_eof()


class Relay:
    """Listens on one socket file and passes all on to another; an async context."""

    def __init__(self, listen: Path, upstream: Path) -> None:
        """Stand between whoever calls `listen` and the server at `upstream`, which may change."""
        self.listen = listen
        self.upstream = upstream
        # Chance of a chunk on its way back to the caller to have one of its bytes changed.
        self.garble_rate = 0.0
        self.num_garbled = 0
        self._random = random.Random(0)
        self._flows = asyncio.Event()
        self._flows.set()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_unix_server(self._accept, self.listen)
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None, "a relay is left after it was entered"
        self._server.close()
        self._flows.set()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.listen.unlink(missing_ok=True)

    @property
    def target(self) -> str:
        """What a channel is opened to."""
        return f"unix:{self.listen}"

    def seed(self, seed: int) -> None:
        """Begin the choices of what to garble anew."""
        self._random = random.Random(seed)

    def cut(self) -> None:
        """End every connection at once."""
        for link in list(self._links):
            link.cut()

    def close_half(self) -> None:
        """Close every connection on the caller's side only."""
        for link in list(self._links):
            link.close_half()

    def hold(self) -> None:
        """Let nothing through, both ways, until `let_go`; connections stay open."""
        self._flows.clear()

    def let_go(self) -> None:
        """Let through what was held, and all that comes."""
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            answers, called = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            # Nobody there: the caller sees its connection refused, as it would without us.
            writer.transport.abort()
            return
        link = Link(writer, called)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._pass(reader, called, is_answer=False),
                self._pass(answers, writer, is_answer=True),
            )
        finally:
            self._links.discard(link)
            link.cut()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        try:
            while data := await reader.read(MAX_CHUNK_BYTES):
                await self._flows.wait()
                writer.write(self._garbled(data) if is_answer else data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            # One side was reset: so is the other.
            writer.transport.abort()

    def _garbled(self, data: bytes) -> bytes:
        if self._random.random() >= self.garble_rate:
            return data
        self.num_garbled += 1
        place = self._random.randrange(len(data))
        flipped = data[place] ^ (1 << self._random.randrange(8))
        return data[:place] + bytes((flipped,)) + data[place + 1 :]
