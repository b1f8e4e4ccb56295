"""The server that all services are built on: errors arrive as themselves, health works."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.errors import Internal, InvalidRequest, SessionNotFound, ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses, translated_errors
from shared.rpc.probe import probe
from shared.rpc.server import ServiceServer
from shared.rpc.shortstack_pb2_grpc import (
    VerifyServiceServicer,
    VerifyServiceStub,
    add_VerifyServiceServicer_to_server,
)

NAME = "shortstack.v1.VerifyService"


class Failing(VerifyServiceServicer):
    """Raises what it was given, after the first message of a stream; counts streams it left."""

    def __init__(self) -> None:
        self.error: Exception = SessionNotFound("no such session")
        self.num_left = 0

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Say one thing and fail."""
        try:
            yield pb.GenerateResponse(started=pb.GenerateStarted(cell_id="a"))
            raise self.error
        finally:
            self.num_left += 1

    async def Drain(
        self, request: pb.DrainRequest, context: grpc.aio.ServicerContext
    ) -> pb.DrainResponse:
        """Fail."""
        raise self.error


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[ServiceServer, str, Failing]]:
    """A server on a unix socket."""
    server, failing = ServiceServer([NAME]), Failing()
    add_VerifyServiceServicer_to_server(failing, server.grpc_server)
    address = server.bind(f"unix:{tmp_path}/server.sock")
    await server.start()
    yield server, address, failing
    await server.stop(0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(SessionNotFound("no such session"), SessionNotFound), (KeyError("a bug"), Internal)],
)
async def test_errors_of_streams_and_of_single_calls_arrive_as_themselves(
    server: tuple[ServiceServer, str, Failing],
    error: Exception,
    expected: type[ShortstackError],
) -> None:
    _, address, failing = server
    failing.error = error
    async with open_channel(address) as channel:
        stub = VerifyServiceStub(channel)
        with pytest.raises(expected), translated_errors():
            await stub.Drain(pb.DrainRequest())
        seen = []
        with pytest.raises(expected):
            async for response in responses(stub.Generate(pb.GenerateRequest())):
                seen.append(response.WhichOneof("event"))
    assert seen == ["started"]
    assert failing.num_left == 1


async def test_health_is_answered_watched_and_withdrawn(
    server: tuple[ServiceServer, str, Failing],
) -> None:
    service, address, _ = server
    status = health_pb2.HealthCheckResponse
    async with open_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=NAME)
        watch = stub.Watch(request)
        assert (await watch.read()).status == status.SERVING
        await service.enter_graceful_shutdown()
        assert (await watch.read()).status == status.NOT_SERVING
        assert (await stub.Check(request)).status == status.NOT_SERVING
        watch.cancel()


def test_a_probe_of_nobody_fails_without_an_exception(tmp_path: Path) -> None:
    assert not probe(f"unix:{tmp_path}/nobody.sock", timeout_s=0.2)


async def test_an_address_that_cannot_be_bound_is_said(
    server: tuple[ServiceServer, str, Failing],
) -> None:
    with pytest.raises(Internal, match="cannot listen on"):
        ServiceServer([NAME]).bind("unix:/no/such/directory/x.sock")


async def test_what_cannot_be_parsed_is_the_callers_fault(
    server: tuple[ServiceServer, str, Failing],
) -> None:
    _, address, failing = server
    async with open_channel(address) as channel:
        path = f"/{NAME}/"
        with pytest.raises(InvalidRequest, match="cannot be parsed"), translated_errors():
            await channel.unary_unary(f"{path}Drain")(b"\xff\xff\xff")
        with pytest.raises(InvalidRequest, match="cannot be parsed"), translated_errors():
            async for _ in channel.unary_stream(f"{path}Generate")(b"\xff\xff\xff"):
                raise AssertionError("it was served")
    assert failing.num_left == 0


async def test_an_error_that_quotes_much_arrives_as_itself_and_shorter(
    server: tuple[ServiceServer, str, Failing],
) -> None:
    _, address, failing = server
    failing.error = InvalidRequest("\U0001f600" * 10_000, field="prompt")
    async with open_channel(address) as channel:
        with pytest.raises(InvalidRequest) as caught, translated_errors():
            await VerifyServiceStub(channel).Drain(pb.DrainRequest())
    assert caught.value.field == "prompt" and caught.value.message.endswith("\U0001f600 ...")
