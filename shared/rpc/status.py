"""Errors <-> gRPC statuses: one of the two places where they are converted is built on this.

An error travels as google.rpc.Status with ErrorInfo (reason = class name, domain `shortstack`),
BadRequest for the field at fault and RetryInfo where another try can help.
"""

from typing import Any
from urllib.parse import quote_from_bytes

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from shared.errors import Internal, ShortstackError, WorkerLost, all_errors

DOMAIN = "shortstack"
DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE_CHARS = 500
# Of a message in the trailers: from 8 KiB on a transport may refuse metadata.
MAX_MESSAGE_BYTES = 6000
_BY_REASON = {cls.__name__: cls for cls in all_errors()}
_BY_STATUS: dict[grpc.StatusCode, type[ShortstackError]] = {
    grpc.StatusCode.UNAVAILABLE: WorkerLost,
    grpc.StatusCode.DEADLINE_EXCEEDED: _BY_REASON["DeadlineExceeded"],
    grpc.StatusCode.CANCELLED: _BY_REASON["Cancelled"],
    grpc.StatusCode.UNIMPLEMENTED: _BY_REASON["Unsupported"],
    grpc.StatusCode.INVALID_ARGUMENT: _BY_REASON["InvalidRequest"],
    # Ours come with details: this is gRPC's own, for a message or metadata beyond its limits.
    grpc.StatusCode.RESOURCE_EXHAUSTED: _BY_REASON["InvalidRequest"],
    grpc.StatusCode.UNAUTHENTICATED: _BY_REASON["Unauthenticated"],
    grpc.StatusCode.PERMISSION_DENIED: _BY_REASON["NotAllowed"],
}


def to_status_proto(error: ShortstackError) -> status_pb2.Status:
    """Return the google.rpc.Status of an error, details included."""
    status = status_pb2.Status(code=code_pb2.Code.Value(type(error).status), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=type(error).__name__, domain=DOMAIN)
    details: list[Any] = [info]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.is_retriable and error.retry_delay_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_delay_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        status.details.add().Pack(detail)
    return status


async def abort(context: Any, error: ShortstackError) -> None:
    """End a call with an error; always raises."""
    error = _shortened(error)
    status = to_status_proto(error)
    code = getattr(grpc.StatusCode, type(error).status)
    # A tuple: grpc.aio refuses any other sequence.
    trailing = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(code, error.message, trailing_metadata=trailing)


def _shortened(error: ShortstackError) -> ShortstackError:
    """Return an error that fits into the trailers of a call, where it stands three times.

    Messages quote what was sent, which may be long; beyond the limits of metadata the caller would
    be told of those instead.
    """
    message = error.message[:MAX_MESSAGE_CHARS]
    num_bytes = _num_bytes(message)
    if num_bytes > MAX_MESSAGE_BYTES:
        message = message[: len(message) * MAX_MESSAGE_BYTES // num_bytes]
    if message == error.message:
        return error
    message += " ..."
    return type(error)(message, field=error.field, retry_delay_ms=error.retry_delay_ms)


def _num_bytes(message: str) -> int:
    """Return what a message takes: percent-encoded once, and twice in base64."""
    text = message.encode("utf-8", "replace")
    return len(quote_from_bytes(text)) + 3 * len(text)


def from_rpc_error(error: grpc.aio.AioRpcError) -> ShortstackError:
    """Return our error for a failed call; what a peer's library reports is mapped by its code."""
    status = _status_of(error)
    message = error.details() or error.code().name
    if status is None:
        return _BY_STATUS.get(error.code(), Internal)(message)
    cls: type[ShortstackError] = Internal
    field, delay_ms = "", 0
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            cls = _BY_REASON.get(info.reason, Internal) if info.domain == DOMAIN else Internal
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest.FromString(detail.value)
            field = request.field_violations[0].field if request.field_violations else ""
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            delay_ms = retry.retry_delay.ToMilliseconds()
    return cls(message, field=field, retry_delay_ms=delay_ms)


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """Return the google.rpc.Status that came with a failed call, if a peer of ours sent one."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
