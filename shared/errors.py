"""Every error that may reach a caller, in one tree.

    ShortstackError
    ├── InvalidRequest        INVALID_ARGUMENT     400   the request must be mended; names the field
    │   └── ContextExceeded   INVALID_ARGUMENT     400   prompt and new tokens do not fit the model
    ├── Unauthenticated       UNAUTHENTICATED      401
    ├── NotAllowed            PERMISSION_DENIED    403
    ├── ModelNotFound         NOT_FOUND            404
    ├── SessionNotFound       NOT_FOUND            404
    ├── Unsupported           UNIMPLEMENTED        400   leave the feature out
    ├── ModelMismatch         FAILED_PRECONDITION  500   inside a cell: attach anew
    ├── StaleHandle           FAILED_PRECONDITION  500   inside a cell: attach anew
    ├── RoundSuperseded       ABORTED              500   dropped and counted
    ├── RateLimited           RESOURCE_EXHAUSTED   429   wait, or another cell
    ├── QueueFull             RESOURCE_EXHAUSTED   429
    ├── PoolExhausted         RESOURCE_EXHAUSTED   429
    ├── NoCell                UNAVAILABLE          503   the gateway replays on another cell
    ├── WorkerDraining        UNAVAILABLE          503
    ├── WorkerLost            UNAVAILABLE          503
    ├── DeadlineExceeded      DEADLINE_EXCEEDED    504
    ├── Cancelled             CANCELLED            499
    ├── BadModel              FAILED_PRECONDITION  500   at start: the checkpoint cannot be used
    └── Internal              INTERNAL             500   a bug

A class knows its gRPC status (by name: this module knows nothing of grpc), its HTTP status and
whether another try can help. `shared.rpc.status` converts, nobody else; texts decide nothing.
"""

from typing import ClassVar


class ShortstackError(Exception):
    """Root of the tree; never raised itself."""

    status: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500
    is_retriable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str = "", retry_delay_ms: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_delay_ms = retry_delay_ms


class InvalidRequest(ShortstackError):
    """The request is malformed; `field` names what to mend."""

    status = "INVALID_ARGUMENT"
    http_status = 400


class ContextExceeded(InvalidRequest):
    """Prompt and new tokens are longer than the model's context, or than the server allows."""


class Unauthenticated(ShortstackError):
    """The caller did not say who it is."""

    status = "UNAUTHENTICATED"
    http_status = 401


class NotAllowed(ShortstackError):
    """The caller may not do this."""

    status = "PERMISSION_DENIED"
    http_status = 403


class ModelNotFound(ShortstackError):
    """No cell serves a model of this name."""

    status = "NOT_FOUND"
    http_status = 404


class SessionNotFound(ShortstackError):
    """There is no such session."""

    status = "NOT_FOUND"
    http_status = 404


class Unsupported(ShortstackError):
    """A known wish that this server cannot grant."""

    status = "UNIMPLEMENTED"
    http_status = 400


class ModelMismatch(ShortstackError):
    """Two workers of a cell hold different models."""

    status = "FAILED_PRECONDITION"


class StaleHandle(ShortstackError):
    """A handle of another boot, or one that points outside the region."""

    status = "FAILED_PRECONDITION"


class RoundSuperseded(ShortstackError):
    """A round that is over was asked for or answered."""

    status = "ABORTED"


class RateLimited(ShortstackError):
    """Too many requests of one caller."""

    status = "RESOURCE_EXHAUSTED"
    http_status = 429
    is_retriable = True


class QueueFull(ShortstackError):
    """The waiting room is full."""

    status = "RESOURCE_EXHAUSTED"
    http_status = 429
    is_retriable = True


class PoolExhausted(ShortstackError):
    """No pages are left; normal life under load."""

    status = "RESOURCE_EXHAUSTED"
    http_status = 429
    is_retriable = True


class NoCell(ShortstackError):
    """No cell can be reached."""

    status = "UNAVAILABLE"
    http_status = 503
    is_retriable = True


class WorkerDraining(ShortstackError):
    """The worker finishes its sessions and takes no more."""

    status = "UNAVAILABLE"
    http_status = 503
    is_retriable = True


class WorkerLost(ShortstackError):
    """The worker went away in the middle."""

    status = "UNAVAILABLE"
    http_status = 503
    is_retriable = True


class DeadlineExceeded(ShortstackError):
    """The request's time is over."""

    status = "DEADLINE_EXCEEDED"
    http_status = 504


class Cancelled(ShortstackError):
    """The caller gave up."""

    status = "CANCELLED"
    http_status = 499


class BadModel(ShortstackError):
    """A model directory that cannot be served: what is wrong with it, and how to mend it."""

    status = "FAILED_PRECONDITION"


class Internal(ShortstackError):
    """A broken invariant of our own."""


def all_errors() -> list[type[ShortstackError]]:
    """Return every class of the tree but its root."""
    return sorted(_below(ShortstackError), key=lambda cls: cls.__name__)


def _below(cls: type[ShortstackError]) -> list[type[ShortstackError]]:
    below = cls.__subclasses__()
    return below + [deeper for each in below for deeper in _below(each)]
