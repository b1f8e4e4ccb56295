"""The door of the gateway's gRPC port: who calls is found out before a message is read.

The servicer then asks `current_caller`. HTTP faces call `KeyWatch.authenticate` themselves.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import grpc

from services.gateway.api_keys import ANYBODY, Caller
from shared.errors import ShortstackError, Unauthenticated
from shared.rpc.handlers import check_first
from shared.rpc.server import OPEN_METHODS

AUTHORIZATION = "authorization"

_caller: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current_caller() -> Caller:
    """Return who makes the call that is being served."""
    return _caller.get()


class KeyInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without a valid key."""

    def __init__(
        self, authenticate: Callable[[str | None], Caller], *, health_is_open: bool
    ) -> None:
        """Take what knows the keys; health_is_open: health and reflection are answered without."""
        self._authenticate = authenticate
        self._open_methods = OPEN_METHODS if health_is_open else ()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Note the caller for the call's own task, or put a refusal in the handler's place."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(self._open_methods):
            return handler
        try:
            header = _header_of(handler_call_details.invocation_metadata)
            _caller.set(self._authenticate(header))
        except ShortstackError as error:
            return check_first(handler, _raiser(error))
        return handler


def _header_of(metadata: Any) -> str | None:
    """Return the one authorization header.

    Raises:
        Unauthenticated: there are several; which of them was meant?
    """
    values = [value for key, value in metadata or () if key == AUTHORIZATION]
    if len(values) > 1:
        raise Unauthenticated("send one authorization header, not several")
    return str(values[0]) if values else None


def _raiser(error: ShortstackError) -> Callable[[Any], None]:
    def refuse(context: Any) -> None:
        raise error

    return refuse
