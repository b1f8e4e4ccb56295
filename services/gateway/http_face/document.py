"""What the OpenAPI document says of answers; bodies FastAPI reads off the endpoints.

FastAPI promises its own 422 wherever something can be malformed; here that is a 400 in OpenAI's
form, as all errors are. Each endpoint lists the statuses that it answers with, and no other.
"""

from typing import Any

from fastapi import FastAPI

from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ModelNotFound,
    NoCell,
    NotAllowed,
    PoolExhausted,
    QueueFull,
    RateLimited,
    ShortstackError,
    Unauthenticated,
    WorkerDraining,
    WorkerLost,
)

Responses = dict[int | str, dict[str, Any]]

ERROR = "ErrorAnswer"
KEY = "api_key"
TOO_LARGE = 413
_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
_ERROR_SCHEMA = {
    "type": "object",
    "description": "What every error looks like, also of unknown paths.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"], "description": "The field to mend."},
                "code": _TEXT,
            },
        }
    },
}
_COMPLETION_SCHEMA = {
    "type": "object",
    "required": ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"],
    "properties": {
        "id": _TEXT,
        "object": _TEXT,
        "created": _WHOLE,
        "model": _TEXT,
        "system_fingerprint": _TEXT,
        "choices": {"type": "array", "items": {"type": "object"}},
        "usage": {"type": "object"},
        "metrics": {"type": "object"},
    },
}
_WHEN_TO_COME_BACK = {
    "Retry-After": {"description": "Seconds until another try makes sense.", "schema": _WHOLE},
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": _WHOLE},
}
_EVENT_SCHEMA = {
    "type": "object",
    "description": "An event: a chunk as JSON, an error, or at last `[DONE]`.",
    "required": ["data"],
    "properties": {"data": _TEXT},
}

# Any endpoint that wants a key; where a bug is met.
ANYWHERE: tuple[type[ShortstackError], ...] = (Unauthenticated, Internal)
NAMES_A_MODEL = (*ANYWHERE, InvalidRequest, ModelNotFound)
COMPLETES = (
    *NAMES_A_MODEL, NotAllowed, RateLimited, QueueFull, PoolExhausted, NoCell, WorkerDraining,
    WorkerLost, DeadlineExceeded, Cancelled,
)  # fmt: skip


def refusals(*errors: type[ShortstackError], has_body: bool = False) -> Responses:
    """Return the answers that errors become, for a route's `responses`."""
    by_status: dict[int, list[type[ShortstackError]]] = {}
    for error in errors:
        by_status.setdefault(error.http_status, []).append(error)
    answers: Responses = {
        status: _refusal(" ".join((each.__doc__ or "").strip() for each in same), same[0])
        for status, same in sorted(by_status.items())
    }
    if has_body:
        answers[TOO_LARGE] = _refusal("The body is too long.", InvalidRequest)
    return answers


def completions() -> Responses:
    """Return all answers of an endpoint that completes."""
    content = {
        "application/json": {"schema": _COMPLETION_SCHEMA},
        "text/event-stream": {"schema": _EVENT_SCHEMA},
    }
    answer = {"description": "The completion, whole or as a stream.", "content": content}
    return {200: answer, **refusals(*COMPLETES, has_body=True)}


def _refusal(description: str, error: type[ShortstackError]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ERROR}"}
    answer: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    if error.is_retriable:
        answer["headers"] = _WHEN_TO_COME_BACK
    return answer


def tell_truth(app: FastAPI) -> None:
    """Let an app's document say what errors look like and that keys are shown, and promise no 422.

    Args:
        app: with all its routes; those say by `refusals` which errors they answer with.
    """
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(make())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    parts = document["components"]
    for name in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(name, None)
    parts["schemas"][ERROR] = _ERROR_SCHEMA
    parts["securitySchemes"] = {KEY: {"type": "http", "scheme": "bearer"}}
    # Without keys configured anybody may call.
    document["security"] = [{KEY: []}, {}]
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return document
