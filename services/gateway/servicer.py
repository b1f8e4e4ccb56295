"""The gRPC face of the gateway: messages to values, values to messages. Decides nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from time import monotonic

import grpc

from services.gateway.completion import (
    Completion,
    CompletionEvent,
    Finished,
    Started,
    Tokens,
)
from services.gateway.key_interceptor import current_caller
from services.gateway.parts import GatewayParts
from services.gateway.request import check_request
from services.gateway.session_finder import SessionFinder
from shared.control.registry import CellLease
from shared.errors import Cancelled, InvalidRequest, ShortstackError
from shared.ids import RequestId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import summary_to_proto
from shared.rpc.shortstack_pb2_grpc import GatewayServiceServicer
from shared.rpc.status import abort
from shared.speculation.vocabulary import SpeculationSummary
from shared.telemetry import spans
from shared.telemetry.rpc_span import context_with, rpc_span

GENERATE_TEXT = "shortstack.v1.GatewayService/GenerateText"


class GatewayServicer(GatewayServiceServicer):
    """GatewayService."""

    def __init__(self, parts: GatewayParts) -> None:
        """Take what answers are made of."""
        self._parts = parts
        self._finder = SessionFinder(lambda: parts.cells.cells, parts.tools.channels)
        self._last_words: set[asyncio.Task[None]] = set()

    async def GenerateText(
        self, request: pb.GenerateTextRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateTextResponse]:
        """Stream the completion of one prompt."""
        tools, metadata = self._parts.tools, context.invocation_metadata()
        with rpc_span(tools.tracing, spans.GENERATE_TEXT, GENERATE_TEXT, metadata) as span:
            limits = self._parts.limits_of(current_caller())
            with tools.metrics.refusals_counted():
                checked = check_request(request, limits)
            span.set_attribute(spans.REQUEST_ID, checked.request_id)
            with self._parts.active.entered(checked.request_id, limits.scope) as running:
                deadline_s, parent = self._deadline_s(context), context_with(span)
                completion = Completion(checked, limits, tools, running, deadline_s, parent)
                try:
                    async with aclosing(completion.run()) as events:
                        async for event in events:
                            if isinstance(event, Finished):
                                context.set_trailing_metadata(_trailers(event.summary))
                            with running.writing(self._parts.slow_reader_timeout_s):
                                yield _response_of(event)
                finally:
                    if running.cut_off_reason:
                        self._leave_word(context, Cancelled(running.cut_off_reason))

    async def Cancel(self, request: pb.CancelRequest, context: object) -> pb.CancelResponse:
        """End a running request."""
        if not request.request_id:
            raise InvalidRequest("request_id must not be empty", field="request_id")
        scope = current_caller().scope
        was_running = await self._parts.active.cancel(RequestId(request.request_id), scope)
        return pb.CancelResponse(was_running=was_running)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: object
    ) -> pb.ListModelsResponse:
        """Say what is served."""
        cells = [_cell_info(cell) for cell in self._parts.cells.cells]
        return pb.ListModelsResponse(models=self._parts.infos.models(), cells=cells)

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: object
    ) -> pb.ListSessionsResponse:
        """Say what the controllers of all cells decide."""
        return await self._finder.list(current_caller(), with_ended=request.with_ended)

    async def GetSessionTimeline(
        self, request: pb.GetSessionTimelineRequest, context: object
    ) -> pb.GetSessionTimelineResponse:
        """Say what one session's last rounds were."""
        if not request.session_id:
            raise InvalidRequest("session_id must not be empty", field="session_id")
        return await self._finder.timeline(current_caller(), request.session_id)

    def _leave_word(self, context: grpc.aio.ServicerContext, error: ShortstackError) -> None:
        """End a call whose client does not read; it finds the error if ever it does.

        Nobody waits for that. Until then the transport keeps what it has of the call: one message.
        """

        async def tell() -> None:
            # AbortError once it was taken; another one if the call was over before.
            with suppress(grpc.aio.BaseError):
                await abort(context, error)

        task = asyncio.create_task(tell())
        self._last_words.add(task)
        task.add_done_callback(self._last_words.discard)

    def _deadline_s(self, context: grpc.aio.ServicerContext) -> float:
        timeout_s = self._parts.request_timeout_s
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            timeout_s = min(timeout_s, remaining_s)
        return monotonic() + timeout_s


def _response_of(event: CompletionEvent) -> pb.GenerateTextResponse:
    if isinstance(event, Tokens):
        return pb.GenerateTextResponse(
            tokens=pb.GenerateTextTokens(
                text=event.text,
                token_ids=event.token_ids,
                sources=event.sources,
                logprobs=event.logprobs,
            )
        )
    if isinstance(event, Started):
        return pb.GenerateTextResponse(started=_started_of(event))
    return pb.GenerateTextResponse(finished=_finished_of(event))


def _started_of(event: Started) -> pb.GenerateTextStarted:
    return pb.GenerateTextStarted(
        request_id=event.request_id,
        session_id=event.session_id,
        cell_id=event.cell_id,
        prompt_len=event.prompt_len,
        model=event.model_name,
        seed=event.seed,
    )


def _finished_of(event: Finished) -> pb.GenerateTextFinished:
    return pb.GenerateTextFinished(
        text=event.text,
        finish_reason=f"FINISH_REASON_{event.reason.name}",
        stop_reason=event.stop_reason,
        prompt_len=event.prompt_len,
        num_emitted=event.num_emitted,
        speculation=summary_to_proto(event.summary),
        timings=event.timings,
        num_replays=event.num_replays,
        num_cached_tokens=event.num_cached_tokens,
        num_preemptions=event.num_preemptions,
    )


def _trailers(summary: SpeculationSummary) -> tuple[tuple[str, str], ...]:
    """Return the acceptance summary as trailing metadata."""
    return (
        ("shortstack-num-drafts", str(summary.num_drafts)),
        ("shortstack-num-draft-tokens", str(summary.num_draft_tokens)),
        ("shortstack-num-accepted-tokens", str(summary.num_accepted_tokens)),
        ("shortstack-acceptance-rate", f"{summary.acceptance_rate:.4f}"),
        ("shortstack-mean-emitted-len", f"{summary.mean_emitted_len:.4f}"),
    )


def _cell_info(cell: CellLease) -> pb.CellInfo:
    return pb.CellInfo(
        cell_id=cell.cell_id,
        address=cell.address,
        model_name=cell.model_name,
        num_sessions=cell.num_sessions,
        num_free_pages=cell.num_free_pages,
        num_draft_workers=cell.num_draft_workers,
    )
