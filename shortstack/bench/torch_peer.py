"""A child process that decodes with torch, seen from the bench: start, order, answer, end.

The bench itself never loads torch, so that no threads of its own disturb who is measured. A child
runs in the user's environment and what is added to it.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.speculation.cost_model import CostTable
from shared.speculation.draft_vocab import AUTO
from shortstack import launch
from shortstack.bench.torch_messages import (
    Answer,
    CostsOrder,
    Order,
    Ready,
    decode_answer,
    decode_costs,
    decode_ready,
    encode_order,
)
from shortstack.errors import CommandError

MAX_LINE_BYTES = 1 << 26
END_TIMEOUT_S = 10.0
NUM_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The checkpoint and how every peer runs it; num_threads 0 is all cores.

    draft_vocab and exit_adapters are the settings of the workers, and of the costs measured.
    """

    model_dir: Path
    dtype: str = "float32"
    device: str = "cpu"
    num_threads: int = 0
    draft_vocab: str = AUTO
    exit_adapters: str = AUTO


class TorchPeer:
    """One child, `plain` or `hf`; use it as an async context."""

    def __init__(
        self, decoder: str, choice: ModelChoice, environment: Mapping[str, str] | None = None
    ) -> None:
        self.decoder = decoder
        self._environment = dict(os.environ) | dict(environment or {})
        self.ready = Ready(0, {})
        self._choice = choice
        self._process: asyncio.subprocess.Process | None = None
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed at the end

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            env=self._environment,
            limit=MAX_LINE_BYTES,
        )
        try:
            self.ready = decode_ready(await self._read())
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._end()

    def _command(self) -> list[str]:
        choice = self._choice
        options = {
            "--model": choice.model_dir.resolve(),
            "--dtype": choice.dtype,
            "--device": choice.device,
            "--num-threads": choice.num_threads,
        }
        words = [str(word) for option in options.items() for word in option]
        module = [sys.executable, "-m", "shortstack.bench.torch_child", self.decoder, *words]
        return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *module]

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    async def generate(self, order: Order) -> Answer:
        """Continue a prompt.

        Raises:
            CommandError: the child ended; the last lines of its log are in the text.
        """
        return decode_answer(await self._ask(encode_order(order)))

    async def costs(self, order: CostsOrder) -> CostTable:
        """Measure the costs of the model's parts; `plain` children only."""
        return decode_costs(await self._ask(encode_order(order)))

    async def _ask(self, line: str) -> str:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        return await self._read()

    async def _read(self) -> str:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            status = await self._process.wait()
            raise CommandError(
                f"the {self.decoder} peer ended with status {status}:\n{self._tail()}"
            )
        return line.decode()

    def _tail(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().splitlines()[-NUM_TAIL_LINES:]) or "(no output)"

    async def _end(self) -> None:
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
