"""Handlers of calls, wrapped: what interceptors have in common. Knows nothing of why.

What cannot be parsed reaches the behaviour as a `Malformed` in the message's place: gRPC itself
would end the call as if it were a bug of ours.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands where a message was that cannot be parsed."""

    reason: str


def wrap_handler(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    """Return a handler whose behaviour is `wrap` of what it was."""
    for kind in KINDS:
        if behaviour := getattr(handler, kind):
            return getattr(grpc, f"{kind}_rpc_method_handler")(
                wrap(behaviour),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
    return handler


def parse_leniently(handler: Any) -> Any:
    """Return a handler to which malformed messages come as `Malformed`."""
    parse = handler.request_deserializer
    return handler._replace(request_deserializer=_lenient(parse)) if parse else handler


def _lenient(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse_or_mark(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError as error:
            return Malformed(str(error))

    return parse_or_mark


def check_first(handler: Any, check: Callable[[Any], None]) -> Any:
    """Return a handler that runs `check` on the call's context before anything else.

    check: raises what the call is to end with.
    """

    def wrap(behaviour: Any) -> Any:
        if inspect.isasyncgenfunction(behaviour):
            return _checked_generator(behaviour, check)
        return _checked_coroutine(behaviour, check)

    return wrap_handler(handler, wrap)


def _checked_coroutine(behaviour: Any, check: Callable[[Any], None]) -> Any:
    async def checked(request: Any, context: Any) -> Any:
        check(context)
        answer = behaviour(request, context)
        # Libraries have plain functions too.
        return await answer if inspect.isawaitable(answer) else answer

    return checked


def _checked_generator(behaviour: Any, check: Callable[[Any], None]) -> Any:
    async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
        check(context)
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                yield response

    return checked
