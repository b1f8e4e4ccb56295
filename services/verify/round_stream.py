"""The outgoing half of one attachment's stream, and how long it is waited for.

A round that is overdue is the engine's to abandon; what is watched here is whether its answer ever
comes. One that was lost never does, and a draft worker that owes an answer gets no new rounds: so a
stream that owes one for too long is ended, and the cell attaches anew. To a worker that was merely
stalled this does no harm: attaching waits until what it has in hand is done.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from services.verify.quarantine import RoundKey
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.rounds import task_to_proto
from shared.speculation.vocabulary import Draft, RoundTask

MIN_PATIENCE_S = 3.0
MAX_PATIENCE_S = 60.0
# An answer is waited for so many times the longest that one took of late.
SLOWNESS_FACTOR = 8
SLOWEST_DECAY = 0.95
WATCH_PERIOD_S = 0.25


@dataclass(slots=True)
class Patience:
    """How long an answer is waited for; pure. It outlives streams: a slow worker stays slow.

    Each time it runs out it doubles, as the worker may need longer than anybody could see.
    """

    min_s: float = MIN_PATIENCE_S
    limit_s: float = field(init=False)
    _slowest_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        """Begin with the least."""
        self.limit_s = self.min_s

    def note_answer(self, took_s: float) -> None:
        """Learn from an answer."""
        self._slowest_s = max(took_s, SLOWEST_DECAY * self._slowest_s)
        self.limit_s = min(max(self.min_s, SLOWNESS_FACTOR * self._slowest_s), MAX_PATIENCE_S)

    def note_silence(self) -> None:
        """Learn that there was none."""
        self.limit_s = min(2 * self.limit_s, MAX_PATIENCE_S)


class RoundStream:
    """A `Drafter` over one attachment."""

    def __init__(self, attach_request: pb.AttachRequest, patience: Patience) -> None:
        """Begin in the running event loop."""
        self._boot_id = attach_request.boot_id
        self._max_rows = attach_request.layout.max_rows
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[pb.RoundRequest | None] = asyncio.Queue()
        self._num_batches = 0
        # When each round was sent that is not answered, oldest first. Rounds, not messages: what is
        # garbled may answer a message, but no round of it.
        self._sent_s: dict[RoundKey, float] = {}
        self._given_up: asyncio.Future[str] = self._loop.create_future()

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Send the rounds of one pass as one message; called from the engine's thread."""
        self._num_batches += 1
        request = pb.RoundRequest(
            batch_index=self._num_batches,
            tasks=[task_to_proto(task, self._boot_id, self._max_rows) for task in tasks],
        )
        keys = [(task.session_id, task.round_index) for task in tasks]
        self._loop.call_soon_threadsafe(self._put, request, keys)

    def _put(self, request: pb.RoundRequest, keys: Sequence[RoundKey]) -> None:
        self._sent_s.update(dict.fromkeys(keys, time.monotonic()))
        self._queue.put_nowait(request)

    def note_answers(self, drafts: Sequence[Draft]) -> None:
        """Note which rounds were answered; a second time is once too often, and no matter."""
        for draft in drafts:
            sent_s = self._sent_s.pop((draft.session_id, draft.round_index), None)
            if sent_s is not None:
                self._patience.note_answer(time.monotonic() - sent_s)

    def give_up(self, reason: str) -> None:
        """Ask for this attachment to be ended; called from the engine's thread."""
        self._loop.call_soon_threadsafe(self._give_up, reason)

    def _give_up(self, reason: str) -> None:
        if not self._given_up.done():
            self._given_up.set_result(reason)

    @property
    def is_given_up(self) -> bool:
        """Whether `give_up` was called."""
        return self._given_up.done()

    async def until_useless(self) -> str:
        """Return once there is no use in this attachment any more, with the reason."""
        while True:
            await asyncio.wait([self._given_up], timeout=WATCH_PERIOD_S)
            if self._given_up.done():
                return self._given_up.result()
            silence_s = time.monotonic() - next(iter(self._sent_s.values()), time.monotonic())
            if silence_s > self._patience.limit_s:
                self._patience.note_silence()
                return f"a round was not answered for {silence_s:.1f} s"

    def close(self) -> None:
        """End the stream: what is still sent goes nowhere."""
        self._queue.put_nowait(None)

    async def requests(self) -> AsyncIterator[pb.RoundRequest]:
        """Iterate over the messages until the stream is closed."""
        while (request := await self._queue.get()) is not None:
            yield request
