"""A child process that decodes with torch: its start, its lines, its end.

The bench itself never loads torch, so that no threads of its own disturb who is measured. A child
runs in the user's environment and what is added to it, and ends with the bench (see `launch`).
Knows nothing of what the lines say, but for the first one, by which the child says it is ready.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from shortstack import launch
from shortstack.bench.torch_messages import Ready, decode_ready
from shortstack.errors import CommandError

MAX_LINE_BYTES = 1 << 26
END_TIMEOUT_S = 10.0
NUM_TAIL_LINES = 12


class TorchProcess:
    """One child, a Python module of this package; use it as an async context."""

    def __init__(
        self,
        name: str,
        module: str,
        words: Sequence[object],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Say what to start; `name` is for error messages, `words` are the module's arguments."""
        self.name = name
        self.ready = Ready(0, {})
        self._words = [sys.executable, "-m", module, *map(str, words)]
        self._environment = dict(os.environ) | dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed at the end

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *self._words],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            limit=MAX_LINE_BYTES,
        )
        try:
            self.ready = decode_ready(await self.read())
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.end()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def write(self, line: str) -> None:
        """Send a line."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def read(self) -> str:
        """Return the next line.

        Raises:
            CommandError: the child ended; the last lines of its log are in the text.
        """
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            status = await self._process.wait()
            raise CommandError(f"the {self.name} peer ended with status {status}:\n{self._tail()}")
        return line.decode()

    def _tail(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-NUM_TAIL_LINES:]) or "(no output)"

    async def end(self) -> None:
        """Close its input, wait, insist."""
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        self._log.close()
