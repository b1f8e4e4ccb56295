"""The error tree: every class has a status, and travels to the other side as itself."""

import grpc
import pytest
from google.rpc import code_pb2

import shared.errors
from shared.errors import Internal, ShortstackError, WorkerLost, all_errors
from shared.rpc.status import DETAILS_KEY, from_rpc_error, to_status_proto

STATUSES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "UNIMPLEMENTED": 400,
    "FAILED_PRECONDITION": 500,
    "ABORTED": 500,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "CANCELLED": 499,
    "INTERNAL": 500,
}
errors = pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)


def received(
    status: grpc.StatusCode, message: str = "", *trailing: tuple[str, bytes]
) -> grpc.aio.AioRpcError:
    """Return what grpc raises for a failed call."""
    return grpc.aio.AioRpcError(
        status, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=message
    )


def sent(error: ShortstackError) -> grpc.aio.AioRpcError:
    """Return what grpc raises when the other side ended a call with an error of ours."""
    details = to_status_proto(error).SerializeToString()
    return received(getattr(grpc.StatusCode, error.status), error.message, (DETAILS_KEY, details))


@errors
def test_every_class_has_a_status_and_its_http_status(cls: type[ShortstackError]) -> None:
    assert code_pb2.Code.Value(cls.status) != code_pb2.OK
    assert getattr(grpc.StatusCode, cls.status)
    assert cls.http_status == STATUSES[cls.status]
    assert cls.is_retriable == (cls.status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"))


def test_every_status_has_a_class() -> None:
    assert {cls.status for cls in all_errors()} == STATUSES.keys()


@errors
def test_the_tree_in_the_docstring_is_complete(cls: type[ShortstackError]) -> None:
    lines = (shared.errors.__doc__ or "").splitlines()
    drawn = [line.split() for line in lines if f" {cls.__name__} " in line]
    told = [words[words.index(cls.__name__) + 1 :][:2] for words in drawn]
    assert told == [[cls.status, str(cls.http_status)]]


@errors
def test_an_error_arrives_as_itself(cls: type[ShortstackError]) -> None:
    error = from_rpc_error(sent(cls("what went wrong", field="a.field", retry_delay_ms=250)))
    assert type(error) is cls
    assert error.message == str(error) == "what went wrong"
    assert error.field == "a.field"
    assert error.retry_delay_ms == (250 if cls.is_retriable else 0)


def test_details_are_left_out_where_there_is_nothing_to_say() -> None:
    error = from_rpc_error(sent(WorkerLost("gone")))
    assert (error.field, error.retry_delay_ms) == ("", 0)
    assert len(to_status_proto(WorkerLost("gone")).details) == 1


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (grpc.StatusCode.UNAVAILABLE, "WorkerLost"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DeadlineExceeded"),
        (grpc.StatusCode.CANCELLED, "Cancelled"),
        (grpc.StatusCode.UNIMPLEMENTED, "Unsupported"),
        (grpc.StatusCode.UNKNOWN, "Internal"),
    ],
)
def test_a_failure_of_the_library_is_known_by_its_code(status: grpc.StatusCode, name: str) -> None:
    error = from_rpc_error(received(status, "socket closed"))
    assert type(error).__name__ == name
    assert error.message == "socket closed"


def test_details_that_cannot_be_read_do_not_hide_the_failure() -> None:
    garbled = (DETAILS_KEY, b"\xff\xff")
    error = from_rpc_error(received(grpc.StatusCode.UNAVAILABLE, "gone", garbled))
    assert type(error) is WorkerLost


def test_an_error_of_another_domain_is_internal() -> None:
    status = to_status_proto(WorkerLost("gone"))
    status.details[0].value = status.details[0].value.replace(b"shortstack", b"shortstick")
    details = (DETAILS_KEY, status.SerializeToString())
    error = from_rpc_error(received(grpc.StatusCode.UNAVAILABLE, "gone", details))
    assert type(error) is Internal
