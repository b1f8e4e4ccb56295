"""Answers of the two endpoints: whole, or as a stream of server-sent events.

A stream begins when a cell runs the request, so that a refusal still is a status; or earlier, with
a comment, once the wait has become so long that someone between might think the connection dead.
The client's going away ends the sessions.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from opentelemetry.context import Context
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.completion import Started, Tokens
from services.gateway.http_face.choices import ChoiceEvent, Choices
from services.gateway.http_face.connection import SlowReader, Writer, while_connected
from services.gateway.http_face.errors import (
    as_internal,
    error_object,
    in_http_terms,
    to_json,
)
from services.gateway.http_face.heading import Heading
from services.gateway.http_face.reading import ChoiceRequests
from services.gateway.http_face.shapes import Choice
from services.gateway.http_face.traced import trace_context_of
from services.gateway.http_face.usage import Tally, speculation_of, usage_of
from services.gateway.parts import GatewayParts
from services.gateway.request import RequestLimits
from shared.errors import ShortstackError

log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
COMMENT = b": waiting\n\n"
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """What is to be answered, and how."""

    asked: ChoiceRequests
    choices: Sequence[Choice]
    limits: RequestLimits
    field_names: dict[str, str]
    report: str = "none"
    has_usage_chunk: bool = False
    has_token_sources: bool = False


class Answer(Response, ABC):
    """Runs the choices of one request, and tells what they said."""

    def __init__(self, plan: AnswerPlan, parts: GatewayParts) -> None:
        """Take the plan; the work begins when the answer is sent."""
        super().__init__()
        self._plan = plan
        self._parts = parts
        asked = plan.asked
        self._tallies = [
            Tally(asked.is_first_of_prompt(index), keeps_drafts=plan.report != "none")
            for index in range(len(asked.requests))
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, for as long as the client stays.

        Raises:
            ShortstackError: the request was refused, or failed before the first byte.
        """
        writer = Writer(scope, send, self._parts.slow_reader_timeout_s)
        await while_connected(receive, self._run(writer, trace_context_of(scope)))

    async def _run(self, writer: Writer, trace: Context) -> None:
        deadline_s = monotonic() + self._parts.request_timeout_s
        plan = self._plan
        asked, has_sources = (plan.asked.requests, plan.limits), plan.has_token_sources
        async with Choices(*asked, self._parts, deadline_s, trace, has_sources) as choices:
            try:
                await self._answer(choices, writer)
            except SlowReader:
                choices.cut_off_slow_reader(writer.timeout_s)
                writer.abort()

    @abstractmethod
    async def _answer(self, choices: Choices, writer: Writer) -> None:
        """Send all of it."""

    def _heading(self, name: str, cell_id: str) -> Heading:
        fingerprint = self._parts.infos.fingerprint_of(cell_id)
        return Heading.make(
            self._plan.choices[0].id_prefix, name, self._plan.limits.model_name, fingerprint
        )

    def _metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = {"seed": self._plan.asked.seed}
        if self._plan.report != "none":
            metrics["speculative_decoding"] = speculation_of(
                self._tallies, is_detailed=self._plan.report == "detailed"
            )
        return metrics


class WholeAnswer(Answer):
    """One JSON object at the end."""

    async def _answer(self, choices: Choices, writer: Writer) -> None:
        written: list[dict[str, Any]] = [{}] * choices.num_open
        cell_id = ""
        with in_http_terms(self._plan.field_names):
            while choices.num_open:
                happened = await choices.next()
                assert happened is not None, "there was no timeout"
                index, event = happened.index, happened.event
                if isinstance(event, Started):
                    cell_id = cell_id or event.cell_id
                elif isinstance(event, Tokens):
                    self._plan.choices[index].add(event)
                    self._tallies[index].note(event)
                else:
                    self._tallies[index].finished = event
                    written[index] = self._plan.choices[index].whole(event)
        body = to_json(
            {
                **self._heading(self._plan.choices[0].object_name, cell_id).fields,
                "choices": written,
                "usage": usage_of(self._tallies),
                "metrics": self._metrics(),
            }
        )
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await writer.send({"type": "http.response.start", "status": 200, "headers": headers})
        await writer.send({"type": "http.response.body", "body": body, "more_body": True})
        # Waits until the body has gone: nothing else would end a client that does not read it.
        await writer.send({"type": "http.response.body"})


class StreamedAnswer(Answer):
    """Chunks as they come."""

    def __init__(self, plan: AnswerPlan, parts: GatewayParts, comment_s: float) -> None:
        """Take the plan, and after how long a silence a comment is sent; 0: never."""
        super().__init__(plan, parts)
        self._comment_s = comment_s
        self._is_open = False
        self._head = ""
        self._tail = ',"usage":null}\n\n' if plan.has_usage_chunk else "}\n\n"

    async def _answer(self, choices: Choices, writer: Writer) -> None:
        try:
            with in_http_terms(self._plan.field_names):
                while choices.num_open:
                    happened = await choices.next(self._comment_s)
                    is_last = not choices.num_open
                    text = COMMENT if happened is None else self._write(happened, is_last)
                    await self._send(writer, text, is_last)
        except SlowReader:
            raise
        except Exception as error:
            if not self._is_open:
                raise
            await self._send(writer, _error_event(error), is_last=True)

    async def _send(self, writer: Writer, text: bytes, is_last: bool) -> None:
        if not self._is_open:
            self._is_open = True
            start = {"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS}
            await writer.send(start)
        body = text + DONE if is_last else text
        await writer.send({"type": "http.response.body", "body": body, "more_body": not is_last})

    def _write(self, happened: ChoiceEvent, is_last: bool) -> bytes:
        """Return the chunks that an event makes."""
        index, event = happened.index, happened.event
        choice, tally = self._plan.choices[index], self._tallies[index]
        if isinstance(event, Tokens):
            tally.note(event)
            return self._chunk(choice.round(event))
        if isinstance(event, Started):
            choice.session_id = event.session_id
            if not self._head:
                self._head = self._heading(choice.chunk_name, event.cell_id).open_json()
            opening = choice.opening()
            return self._chunk(opening) if opening else b""
        tally.finished = event
        held = self._chunk(choice.held_back(event.text)) if event.text else b""
        return held + (self._last(choice.end(event)) if is_last else self._chunk(choice.end(event)))

    def _chunk(self, piece: str) -> bytes:
        return f'data: {self._head},"choices":[{piece}]{self._tail}'.encode()

    def _last(self, piece: str) -> bytes:
        """Return the last choice's end with the request's metrics: in the usage chunk, if any."""
        metrics = b',"metrics":' + to_json(self._metrics())
        head = f"data: {self._head}".encode()
        if not self._plan.has_usage_chunk:
            return b'%b,"choices":[%b]%b}\n\n' % (head, piece.encode(), metrics)
        usage = to_json(usage_of(self._tallies))
        return self._chunk(piece) + b'%b,"choices":[],"usage":%b%b}\n\n' % (head, usage, metrics)


def _error_event(error: Exception) -> bytes:
    """Return the event that tells what ended a stream; a bug is logged with its trace."""
    if not isinstance(error, ShortstackError):
        log.error("unexpected error in a stream", exc_info=error)
        error = as_internal(error)
    return b"data: %b\n\n" % to_json(error_object(error))
