"""Clients under a drill: each asks one request after the other, and compares every token.

A client does what is documented for a caller: where an error says that another try can help, it
sends the same request again after the delay that it was told. A request is lost when it ends any
other way. Tokens of a stream that broke off must be the beginning of the answer, too.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from shared.errors import ShortstackError
from shared.speculation.vocabulary import TokenSource
from shortstack.client import Client, CompletionBuilder
from shortstack.drill.answers import Deviation, KnownAnswer

# As long as a client goes on asking; gateways and cells are back long before.
PATIENCE_S = 90.0
RETRY_DELAY_S = 0.2


@dataclass(slots=True)
class Tally:
    """What clients saw in one drill."""

    num_requests: int = 0
    num_tokens: int = 0
    num_draft_tokens: int = 0
    num_replays: int = 0
    num_sent_again: int = 0
    longest_pause_s: float = 0.0
    # By class: those after which the client was told to try again.
    errors: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    deviations: list[Deviation] = field(default_factory=list)


class Load:
    """Clients that ask until they are stopped."""

    def __init__(self, clients: Sequence[Client], answers: Sequence[KnownAnswer]) -> None:
        self.tally = Tally()
        self._clients = clients
        self._answers = answers
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._num_first_answers = 0

    def start(self) -> None:
        """Let every client ask."""
        for place, client in enumerate(self._clients):
            self._tasks.append(asyncio.create_task(self._keep_asking(client, place)))

    @property
    def is_under_way(self) -> bool:
        """Whether tokens have come to as many requests as there are clients.

        Raises:
            BaseException: what ended a client, which nothing may.
        """
        for task in self._tasks:
            if task.done():
                task.result()
        return self._num_first_answers >= len(self._clients)

    async def finish(self) -> Tally:
        """Let the requests that run end; return what all saw."""
        self._is_stopping = True
        await asyncio.gather(*self._tasks)
        return self.tally

    async def abandon(self) -> None:
        """Leave the requests that run; for a drill that cannot go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_asking(self, client: Client, place: int) -> None:
        index = place
        while not self._is_stopping:
            known = self._answers[index % len(self._answers)]
            self.tally.num_requests += 1
            await self._ask_until_answered(client, known)
            index += len(self._clients)

    async def _ask_until_answered(self, client: Client, known: KnownAnswer) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while (error := await self._ask(client, known)) is not None:
            name = type(error).__name__
            if not error.is_retriable or time.monotonic() > deadline_s:
                self.tally.lost.append(f"{name}: {error.message}")
                return
            self.tally.errors[name] += 1
            self.tally.num_sent_again += 1
            await asyncio.sleep(max(error.retry_delay_ms / 1000, RETRY_DELAY_S))

    async def _ask(self, client: Client, known: KnownAnswer) -> ShortstackError | None:
        """Ask once; return the error that it ended with."""
        builder = CompletionBuilder()
        last_s = time.monotonic()
        try:
            async with aclosing(client.generate(known.again())) as events:
                async for event in events:
                    self._num_first_answers += not builder.token_ids
                    builder.add(event)
                    last_s = self._note_pause(last_s)
        except ShortstackError as error:
            self._note_pause(last_s)
            self._compare(builder.token_ids, known, is_whole=False)
            return error
        self._count(builder)
        self._compare(builder.token_ids, known, is_whole=True)
        return None

    def _note_pause(self, last_s: float) -> float:
        now_s = time.monotonic()
        self.tally.longest_pause_s = max(self.tally.longest_pause_s, now_s - last_s)
        return now_s

    def _count(self, builder: CompletionBuilder) -> None:
        finished = builder.build().finished
        self.tally.num_replays += finished.num_replays
        self.tally.num_tokens += len(builder.token_ids)
        self.tally.num_draft_tokens += builder.sources.count(TokenSource.ACCEPTED)

    def _compare(self, token_ids: list[int], known: KnownAnswer, *, is_whole: bool) -> None:
        expected = known.token_ids if is_whole else known.token_ids[: len(token_ids)]
        if tuple(token_ids) != expected:
            self.tally.deviations.append(Deviation(known.request, tuple(token_ids)))
