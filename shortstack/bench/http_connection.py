"""One HTTP connection, as plain as can be: bytes out, pieces of the answer with their times.

For measuring, where a whole client library would be measured too, and for attacking, where one
would mend what is to be malformed. Follows no redirects, tries nothing twice.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

READ_BYTES = 1 << 16


class BadAnswer(Exception):
    """What came is no HTTP answer, or only half of one."""


def json_request(method: str, path: str, body: Any, headers: Mapping[str, str]) -> bytes:
    """Write a request with a JSON body."""
    content = json.dumps(body).encode()
    own = {"host": "localhost", "content-type": "application/json"}
    return write_request(method, path, {**own, **headers}, content)


def write_request(method: str, target: str, headers: Mapping[str, str], content: bytes) -> bytes:
    """Write a request; its length is told unless the headers tell one."""
    lines = dict(headers)
    if content and "content-length" not in {name.lower() for name in lines}:
        lines["content-length"] = str(len(content))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    start = f"{method} {target} HTTP/1.1\r\n"
    return f"{start}{head}\r\n".encode("utf-8", "surrogateescape") + content


class HttpConnection:
    """A connection to a `http://host:port` or `unix:/path`; one request at a time."""

    def __init__(self, url: str) -> None:
        """Name the server; the connection is made when the context is entered."""
        self._url = url
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._pieces: list[bytes] = []
        self._is_over = False
        # Of the last answer.
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        if self._url.startswith("unix:"):
            opening = asyncio.open_unix_connection(self._url.removeprefix("unix:"))
        else:
            where = urlsplit(self._url)
            opening = asyncio.open_connection(where.hostname, where.port)
        self._reader, self._writer = await opening
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()
        # What the other side has done to the connection does not matter any more.
        with suppress(OSError):
            await self._writer.wait_closed()

    async def stream(self, request: bytes) -> AsyncGenerator[tuple[int, bytes], None]:
        """Send a request; yield the pieces of the answer's body, each with its time since 1970, ns.

        Raises:
            BadAnswer: the connection ended before the answer did, or it is malformed.
            OSError: the connection broke.
        """
        self.status, self.headers, self._pieces, self._is_over = 0, {}, [], False
        parser = HttpResponseParser(self)
        self._writer.write(request)
        while not self._is_over:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise BadAnswer(f"the connection ended in the middle (status {self.status})")
            try:
                parser.feed_data(data)
            except HttpParserError as error:
                raise BadAnswer(str(error)) from None
            self.status = parser.get_status_code()
            now_ns = time.time_ns()
            for piece in self._pieces:
                yield now_ns, piece
            self._pieces.clear()

    async def answer(self, request: bytes) -> bytes:
        """Send a request; return the whole body of the answer.

        Raises:
            BadAnswer, OSError: as `stream`.
        """
        return b"".join([piece async for _, piece in self.stream(request)])

    # --- what the parser calls ------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end."""
        self._is_over = True
