"""Handlers of calls, wrapped: what interceptors have in common. Knows nothing of why."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


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
