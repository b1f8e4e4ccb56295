"""Workers on real ports, in this process."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.draft.engine import DraftEngine
from services.draft.main import SERVICE_NAME
from services.draft.servicer import DraftServicer
from services.draft.settings import DraftServiceSettings, DraftSettings
from services.verify.main import VerifyWorker
from services.verify.settings import VerifyServiceSettings, VerifySettings
from shared.ids import WorkerId
from shared.model.layer_stack import LayerStack
from shared.model.segment import hold_lock
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.channel import open_channel
from shared.rpc.credentials import PortSecurity
from shared.rpc.server import ServiceServer
from shared.settings import ModelSettings
from tests.polling import poll_until


def free_tcp_address() -> str:
    """Return an address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


async def health_of(channel: grpc.aio.Channel, service: str = "") -> str:
    """Return what the health service says of a service; UNKNOWN where it does not answer."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=1.0)
    except grpc.aio.AioRpcError:
        return "UNKNOWN"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def reflected_services(channel: grpc.aio.Channel) -> set[str]:
    """Return the services that reflection lists."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    async for answer in call:
        return {service.name for service in answer.list_services_response.service}
    return set()


async def rest_of(call: Any) -> list[pb.GenerateResponse]:
    """Read a session's call to its end."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


class DraftHost:
    """A draft worker."""

    def __init__(
        self,
        stack: LayerStack,
        folder: Path,
        address: str,
        worker_id: str = "draft-1",
        security: PortSecurity | None = None,
    ) -> None:
        self.address = address
        self.stack = stack
        self.liveness = folder / f"{worker_id}.lock"
        self._lock_fd = hold_lock(self.liveness)
        self.failures: list[BaseException] = []
        self.engine = DraftEngine(stack, self.failures.append)
        settings = DraftServiceSettings(
            model=ModelSettings(path=stack.config.path, name="tiny", num_threads=1),
            draft=DraftSettings(listen=address, runtime_dir=folder),
        )
        self._server = ServiceServer([SERVICE_NAME], security=security)
        self.servicer = DraftServicer(
            settings, WorkerId(worker_id), str(self.liveness), stack, self.engine
        )
        pb_grpc.add_DraftServiceServicer_to_server(self.servicer, self._server.grpc_server)
        self.channel = open_channel(address)
        self.stub = pb_grpc.DraftServiceStub(self.channel)

    async def start(self) -> "DraftHost":
        """Listen."""
        self._server.bind(self.address)
        self.engine.start()
        await self._server.start()
        return self

    async def stop(self) -> None:
        """End, as a process would: the lock goes last."""
        await self.channel.close()
        await self._server.stop(0.0)
        await asyncio.to_thread(self.engine.stop)
        os.close(self._lock_fd)
        assert not self.failures, self.failures


class VerifyHost:
    """A verify worker, from its first health answer to the end of its `serve`."""

    def __init__(self, stack: LayerStack, folder: Path, address: str, **options: Any) -> None:
        self.address = address
        model_options = {"path": stack.config.path, "name": "tiny", "num_threads": 1}
        settings = VerifyServiceSettings(
            model=ModelSettings(**model_options),
            verify=VerifySettings(
                **{
                    "listen": address,
                    "runtime_dir": folder,
                    "cell_id": "cell-1",
                    "cell_kind": "fused",
                    "page_size": 4,
                    "num_pages": 2200,
                    "max_sessions": 4,
                    "draft_len": 4,
                    # What a tiny model's steps take would decide who drafts.
                    "sheds": False,
                    "exit_layer": 2,
                    "round_timeout_ms": 5000,
                    "drain_timeout_ms": 100,
                }
                | options
            ),
        )
        self.worker = VerifyWorker(settings, stack)
        self.channel = open_channel(address)
        self.stub = pb_grpc.VerifyServiceStub(self.channel)
        self.serving: asyncio.Task[None]

    async def start(self) -> "VerifyHost":
        """Serve."""
        self.serving = asyncio.create_task(self.worker.serve())
        await poll_until(self._is_serving)
        return self

    async def _is_serving(self) -> bool:
        assert not self.serving.done(), self.serving.exception()
        return await health_of(self.channel) == "SERVING"

    async def started(self, request: pb.GenerateRequest) -> Any:
        """Start a session and return its call once it runs."""
        call = self.stub.Generate(request)
        message = await call.read()
        assert message.WhichOneof("event") == "started"
        return call

    async def info(self) -> pb.GetVerifyInfoResponse:
        """Return the info call's answer."""
        answer: pb.GetVerifyInfoResponse = await self.stub.GetVerifyInfo(pb.GetVerifyInfoRequest())
        return answer

    async def memory_is_free(self) -> bool:
        """Say whether no page is held by anybody."""
        pool = (await self.info()).pool
        num_unused = pool.num_free + pool.num_cached
        assert num_unused + pool.num_used + pool.num_quarantined == pool.num_pages
        return num_unused == pool.num_pages

    async def stop(self) -> None:
        """End in good order."""
        if not self.serving.done():
            await poll_until(self.memory_is_free)
        self.worker._shutdown.request()
        await self.channel.close()
        await self.serving
        cell = self.worker._cell
        cell.memory.check_integrity(cell.engine.roster.running)
