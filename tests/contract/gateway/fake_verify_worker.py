"""A verify worker whose tokens are scripted: a real grpc.aio server, no model.

It plays the completion `ids` for whoever asks, in rounds of `round_len` tokens of which all but the
last are accepted drafts. A replay goes on behind the ids that were emitted before, as a real worker
would. What goes wrong, and where, is told by `Trouble`.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from shared.errors import SessionNotFound, ShortstackError
from shared.ids import new_boot_id
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.credentials import PortSecurity
from shared.rpc.server import ServiceServer
from shared.rpc.shortstack_pb2_grpc import (
    VerifyServiceServicer,
    add_VerifyServiceServicer_to_server,
)

EOS_ID = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens once so many tokens of the completion were sent; None is never.

    is_mute: questions about sessions are never answered.
    waits_at: it goes on once `release` is set.
    """

    dies_at: int | None = None
    moves_at: int | None = None
    hangs_at: int | None = None
    refuses_with: ShortstackError | None = None
    fails_at: int | None = None
    is_mute: bool = False
    waits_at: int | None = None
    release: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What the last message tells of the session's memory."""

    num_cached_tokens: int = 0
    num_preemptions: int = 0


class FakeVerifyWorker(VerifyServiceServicer):
    """One cell's verify worker."""

    def __init__(
        self,
        ids: Sequence[int],
        *,
        cell_id: str = "cell-a",
        round_len: int = 3,
        trouble: Trouble | None = None,
        memory: MemoryReport | None = None,
        timelines: Sequence[pb.VerifyServiceGetSessionTimelineResponse] = (),
        max_context_len: int = 64,
        vocab_size: int = 420,
        security: PortSecurity | None = None,
    ) -> None:
        self.ids = list(ids)
        self.cell_id = cell_id
        self.trouble = trouble or Trouble()
        self.memory = memory or MemoryReport()
        self.timelines = list(timelines)
        self.requests: list[pb.GenerateRequest] = []
        self.metadata: list[dict[str, Any]] = []
        self.num_running = 0
        self.num_cancelled = 0
        self.num_rounds = 0
        self.num_listed = 0
        self.is_draining = False
        # Told as what ended a completion that was not cut short.
        self.stop_token_id: int | None = None
        self.address = ""
        self._round_len = round_len
        self._boot_id = new_boot_id()
        self._model = pb.ModelInfo(
            model_name="small",
            model_fingerprint="f",
            vocab_size=vocab_size,
            max_context_len=max_context_len,
            num_layers=4,
            eos_token_ids=[EOS_ID],
        )
        self._server = ServiceServer(["shortstack.v1.VerifyService"], security=security)
        add_VerifyServiceServicer_to_server(self, self._server.grpc_server)

    async def start(self) -> str:
        """Serve; return the address."""
        self.address = self._server.bind("127.0.0.1:0")
        await self._server.start()
        return self.address

    async def kill(self) -> None:
        """Drop all calls at once."""
        await self._server.stop(0)

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Play the script from where the request stands."""
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.trouble.refuses_with:
            raise self.trouble.refuses_with
        self.num_running += 1
        try:
            num_cached = self.memory.num_cached_tokens
            started = pb.GenerateStarted(cell_id=self.cell_id, num_cached_tokens=num_cached)
            yield pb.GenerateResponse(started=started)
            async for response in self._rounds(request):
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1

    async def GetVerifyInfo(
        self, request: pb.GetVerifyInfoRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetVerifyInfoResponse:
        """Describe the cell."""
        return pb.GetVerifyInfoResponse(
            cell_id=self.cell_id,
            worker_id=f"verify-{self.cell_id}",
            boot_id=self._boot_id,
            model=self._model,
            pool=pb.PoolState(num_pages=10, num_free=10),
            num_sessions=self.num_running,
            max_sessions=8,
            num_draft_workers=1,
            methods=["layerskip", "off"],
            default_speculation=pb.SpeculationParams(exit_layer=2),
            is_draining=self.is_draining,
        )

    async def ListSessions(
        self, request: pb.VerifyServiceListSessionsRequest, context: grpc.aio.ServicerContext
    ) -> pb.VerifyServiceListSessionsResponse:
        """List the scripted sessions."""
        self.num_listed += 1
        await self._say_nothing_if_mute()
        sessions = [timeline.session for timeline in self.timelines]
        return pb.VerifyServiceListSessionsResponse(
            sessions=[each for each in sessions if request.with_ended or not each.has_ended]
        )

    async def GetSessionTimeline(
        self, request: pb.VerifyServiceGetSessionTimelineRequest, context: grpc.aio.ServicerContext
    ) -> pb.VerifyServiceGetSessionTimelineResponse:
        """Return a scripted timeline."""
        await self._say_nothing_if_mute()
        for timeline in self.timelines:
            if timeline.session.session_id == request.session_id:
                return timeline
        raise SessionNotFound(f"no session {request.session_id!r}")

    async def _say_nothing_if_mute(self) -> None:
        if self.trouble.is_mute:
            await asyncio.Event().wait()

    async def _rounds(self, request: pb.GenerateRequest) -> AsyncIterator[pb.GenerateResponse]:
        limit = min(len(self.ids), request.stop.max_new_tokens)
        position, round_index = request.num_emitted, 0
        while position < limit:
            end = min(limit, position + (self._round_len if round_index else 1))
            if troubled := await self._troubled(end):
                yield troubled
                return
            yield pb.GenerateResponse(tokens=self._round(request, round_index, position, end))
            position, round_index = end, round_index + 1
            self.num_rounds += 1
        if troubled := await self._troubled(limit + 1):
            yield troubled
            return
        reason = pb.FINISH_REASON_LENGTH
        if limit < request.stop.max_new_tokens:
            reason = pb.FINISH_REASON_STOP
        timings = pb.SessionTimings(prefill_ns=7)
        yield pb.GenerateResponse(
            finished=pb.GenerateFinished(
                finish_reason=reason,
                stop_token_id=self.stop_token_id,
                timings=timings,
                num_cached_tokens=self.memory.num_cached_tokens,
                num_preemptions=self.memory.num_preemptions,
            )
        )

    async def _troubled(self, position: int) -> pb.GenerateResponse | None:
        """Make the trouble that is due before `position` tokens were sent."""
        trouble = self.trouble
        if trouble.hangs_at is not None and position > trouble.hangs_at:
            await asyncio.Event().wait()
        if trouble.release is not None and position > (trouble.waits_at or 0):
            await trouble.release.wait()
        if trouble.fails_at is not None and position > trouble.fails_at:
            raise RuntimeError("a bug in the worker")
        if trouble.dies_at is not None and position > trouble.dies_at:
            task = asyncio.create_task(self.kill())
            await asyncio.shield(task)
        if trouble.moves_at is not None and position > trouble.moves_at:
            return pb.GenerateResponse(moved=pb.GenerateMoved(reason="drain timeout"))
        return None

    def _round(
        self, request: pb.GenerateRequest, index: int, start: int, end: int
    ) -> pb.GenerateTokens:
        num_tokens = end - start
        sources = [pb.TOKEN_SOURCE_ACCEPTED] * (num_tokens - 1)
        sources.append(pb.TOKEN_SOURCE_BONUS if num_tokens > 1 else pb.TOKEN_SOURCE_PLAIN)
        logprobs = []
        if request.HasField("num_logprobs"):
            logprobs = [_logprobs(token_id) for token_id in self.ids[start:end]]
        return pb.GenerateTokens(
            round_index=index,
            token_ids=self.ids[start:end],
            sources=sources,
            logprobs=logprobs,
            method="layerskip" if num_tokens > 1 else "off",
            exit_layer=2 if num_tokens > 1 else 0,
            draft_len=num_tokens - 1,
            reason="policy" if num_tokens > 1 else "",
        )


def _logprobs(token_id: int) -> pb.TokenLogprobs:
    top = pb.TopLogprob(token_id=token_id, logprob=math.log(0.5))
    return pb.TokenLogprobs(logprob=math.log(0.5), top=[top])
