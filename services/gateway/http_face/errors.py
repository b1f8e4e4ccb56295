"""Errors as OpenAI's clients read them: `{"error": {message, type, param, code}}`.

What is raised before the first byte of an answer becomes its status; in a stream it becomes its
last event. A bug is logged with its trace by the server, and told without it.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import (
    ContextExceeded,
    Internal,
    InvalidRequest,
    RateLimited,
    ShortstackError,
    Unauthenticated,
)

DEFAULT_RETRY_DELAY_MS = 1000
MAX_NAME_CHARS = 100
MAX_FAULTS = 5
# Tags of unions begin so, names of fields do not.
TAG = "<"
UNSUPPORTED = "unsupported"
TOO_MANY_FIELDS = "too_many_fields"
CONFLICT = "conflict"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Where OpenAI has a name of its own; the others are called as our class is.
_CODES: dict[type[ShortstackError], str] = {
    ContextExceeded: "context_length_exceeded",
    InvalidRequest: "invalid_value",
    RateLimited: "rate_limit_exceeded",
    Unauthenticated: "invalid_api_key",
}
_CODES_OF_FAULTS = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
    UNSUPPORTED: "unsupported_parameter",
}


def to_json(value: object) -> bytes:
    """Return compact JSON; what is no valid text is escaped instead of refused."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def error_object(error: ShortstackError) -> dict[str, Any]:
    """Return the body that tells an error."""
    code = _CODES.get(type(error)) or _snake_case(type(error).__name__)
    return _object(error.http_status, error.message, error.field, code)


def error_response(error: ShortstackError) -> Response:
    """Return the answer that an error is; with when to come back where that can help."""
    headers = {}
    if error.is_retriable:
        delay_ms = error.retry_delay_ms or DEFAULT_RETRY_DELAY_MS
        headers = {
            "retry-after": str(math.ceil(delay_ms / 1000)),
            "retry-after-ms": str(delay_ms),
        }
    return _response(error.http_status, error_object(error), headers)


@contextmanager
def in_http_terms(names: Mapping[str, str]) -> Iterator[None]:
    """Raise errors with the field's name in the body in place of that on the wire."""
    try:
        yield
    except ShortstackError as error:
        name = names.get(error.field) or error.field.removeprefix("sampling.")
        if name == error.field:
            raise
        message = error.message
        if message.startswith(error.field):
            message = name + message.removeprefix(error.field)
        delay_ms = error.retry_delay_ms
        raise type(error)(message, field=name, retry_delay_ms=delay_ms) from None


async def on_error(request: Request, error: Exception) -> Response:
    """Answer with an error of ours."""
    assert isinstance(error, ShortstackError), "registered for these"
    return error_response(error)


async def on_invalid_body(request: Request, error: Exception) -> Response:
    """Answer to a body that is not what the endpoint takes; names the fields at fault."""
    assert isinstance(error, RequestValidationError), "registered for these"
    faults = error.errors()
    first = faults[0]
    code = _CODES_OF_FAULTS.get(first["type"])
    if code is None:
        code = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    message = "; ".join(_describe(fault) for fault in faults[:MAX_FAULTS])
    return _response(400, _object(400, message, _path_of(first), code))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer to what never reached an endpoint: unknown paths and methods, oversized bodies."""
    assert isinstance(error, HTTPException), "registered for these"
    status = error.status_code
    message = f"{error.detail}: {request.method} {request.url.path[:MAX_NAME_CHARS]}"
    codes = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}
    code = codes.get(status, "invalid_request")
    return _response(status, _object(status, message, "", code), error.headers)


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer to an exception that nobody expected; the server logs it."""
    return error_response(as_internal(error))


def as_internal(error: Exception) -> Internal:
    """Return what a client is told of a bug: its kind, no more."""
    return Internal(f"an unexpected {type(error).__name__} in the gateway")


def _object(status: int, message: str, param: str, code: str) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param or None, "code": code}}


def _response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(body), status, dict(headers or {}), "application/json")


def _describe(fault: Mapping[str, Any]) -> str:
    path, kind, message = _path_of(fault), fault["type"], fault["msg"]
    if kind == "extra_forbidden":
        return f"{path} is not a field that this server knows"
    if kind == "missing":
        return f"{path or 'the body'} is missing"
    if kind == "json_invalid":
        return f"the body is no JSON: {fault['ctx']['error']} at character {fault['loc'][1]}"
    if kind in (UNSUPPORTED, TOO_MANY_FIELDS):
        return f"{path or 'the body'} {message}"
    if kind == CONFLICT:
        return str(message)
    if not path:
        return "the body must be a JSON object, sent with Content-Type: application/json"
    return f"{path}: {message[:1].lower()}{message[1:]}"


def _path_of(fault: Mapping[str, Any]) -> str:
    """Return where in the body a fault is, as `messages[0].content`."""
    if fault["type"] == "json_invalid":
        return ""
    if fault["type"] == CONFLICT:
        return str(fault["ctx"]["field"])
    parts: Sequence[Any] = fault["loc"][1:]
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(TAG):
            path += f".{part}" if path else part
    return path[:MAX_NAME_CHARS]


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
