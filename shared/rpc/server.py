"""Builds the grpc.aio server of a service: errors, health, reflection, keepalive, TLS, limits.

Knows nothing of what a service does. Errors of `shared.errors` end a call with their status; any
other exception is a bug: it is logged with its trace and ends the call with INTERNAL.
"""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from shared.access.tls_files import TlsFaults
from shared.errors import Internal, InvalidRequest, ShortstackError
from shared.rpc.credentials import (
    UNIX,
    CallerInterceptor,
    PortSecurity,
    server_credentials,
)
from shared.rpc.handlers import Malformed, parse_leniently, wrap_handler
from shared.rpc.status import abort

log = logging.getLogger(__name__)

KEEPALIVE_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # While data flows gRPC sends pings of its own, and a keepalive ping waits behind one that is
    # not answered, for a minute by default: a peer that was stopped would be found no sooner.
    ("grpc.http2.ping_timeout_ms", 25_000),
]
# gRPC's own default, said here as it is a promise: no tensor ever goes over the wire, and what one
# caller can make this process hold is bounded. Larger ones end with RESOURCE_EXHAUSTED.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_METADATA_BYTES = 16 * 1024
LIMIT_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
]
# Methods that tell nothing of anybody.
OPEN_METHODS = ("/grpc.health.v1.", "/grpc.reflection.")


class ServiceServer:
    """One gRPC port with health and reflection for the services added to it."""

    def __init__(
        self,
        service_names: list[str],
        *,
        has_reflection: bool = True,
        security: PortSecurity | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """Build the server.

        security: TLS of a `host:port`; a socket file has none. interceptors: these see a call after
        errors of theirs are mapped, before the servicer.
        """
        self._security = security
        own: list[Any] = [ErrorInterceptor()]
        if security is not None and security.callers:
            own.append(CallerInterceptor(security.callers, OPEN_METHODS))
        self.grpc_server = grpc.aio.server(
            interceptors=[*own, *interceptors],
            options=[*KEEPALIVE_OPTIONS, *LIMIT_OPTIONS, ("grpc.so_reuseport", 0)],
        )
        self._names = ["", *service_names]
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc_server)
        if has_reflection:
            names = [*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self.grpc_server)

    def bind(self, address: str) -> str:
        """Listen on `host:port` or `unix:/path`; return the address with the port filled in.

        Raises:
            Internal: the address cannot be bound, or its certificate cannot be shown.
        """
        try:
            port = self._add_port(address)
        except (RuntimeError, TlsFaults) as error:
            raise Internal(f"cannot listen on {address}: {error}") from None
        if address.startswith(UNIX):
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    def _add_port(self, address: str) -> int:
        if self._security is None or address.startswith(UNIX):
            return int(self.grpc_server.add_insecure_port(address))
        credentials = server_credentials(self._security)
        return int(self.grpc_server.add_secure_port(address, credentials))

    async def start(self) -> None:
        """Accept calls; health says SERVING from now on."""
        await self.grpc_server.start()
        for name in self._names:
            await self.set_serving(name, True)

    async def set_serving(self, name: str, is_serving: bool) -> None:
        """Change what health says of one service."""
        status = health_pb2.HealthCheckResponse.ServingStatus
        value = status.SERVING if is_serving else status.NOT_SERVING
        await self._health.set(name, value)

    async def enter_graceful_shutdown(self) -> None:
        """Say NOT_SERVING for everything; calls are still answered."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, give running ones `grace_s`, then cancel them."""
        await self.grpc_server.stop(grace_s)


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Turns exceptions of servicers into statuses; the only place on the server side."""

    def __init__(self) -> None:
        # By method: the handler as it was, and wrapped. Wrapping anew would cost every call.
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        known = self._wrapped.get(handler_call_details.method)
        if known is None or known[0] is not handler:
            known = handler, wrap_handler(parse_leniently(handler), _guard)
            self._wrapped[handler_call_details.method] = known
        return known[1]


def _guard(behaviour: Any) -> Any:
    """Wrap a handler by what it is: an async generator, or a coroutine that may write by itself.

    A plain function is left to grpc: libraries have some (health), and they raise none of ours.
    """
    if inspect.isasyncgenfunction(behaviour):
        return _guard_generator(behaviour)
    if inspect.iscoroutinefunction(behaviour):
        return _guard_coroutine(behaviour)
    return behaviour


def _guard_coroutine(behaviour: Any) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            return await behaviour(_parsed(request), context)
        except Exception as error:
            await _end(context, error)

    return guarded


def _guard_generator(behaviour: Any) -> Any:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            # Closed at once when the call ends early: a stream owns the session's memory.
            async with aclosing(behaviour(_parsed(request), context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:
            await _end(context, error)

    return guarded


def _parsed(request: Any) -> Any:
    """Return a request, or the stream of a client's requests, without what cannot be parsed."""
    if isinstance(request, Malformed):
        raise _malformed(request)
    return _parsed_stream(request) if hasattr(request, "__aiter__") else request


async def _parsed_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, Malformed):
            raise _malformed(request)
        yield request


def _malformed(request: Malformed) -> InvalidRequest:
    return InvalidRequest(f"the message cannot be parsed: {request.reason}")


async def _end(context: Any, error: Exception) -> None:
    if isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
        raise error
    if isinstance(error, ShortstackError):
        await abort(context, error)
    log.error("unexpected error in a call", exc_info=error)
    await abort(context, Internal(f"{type(error).__name__}: {error}"))
