"""Health questions to the processes of a stack; a peer that cannot be reached is not healthy."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.access.tls_files import TlsFiles
from shared.errors import WorkerLost
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as stubs
from shared.rpc.channel import open_channel, translated_errors

GATEWAY_SERVICE = "shortstack.v1.GatewayService"
VERIFY_SERVICE = "shortstack.v1.VerifyService"
SPECULATION = "speculation"
PROBE_TIMEOUT_S = 1.0


async def is_serving(
    target: str, service: str, timeout_s: float = PROBE_TIMEOUT_S, tls: TlsFiles | None = None
) -> bool:
    """Return whether the service at the target says SERVING."""
    request = health_pb2.HealthCheckRequest(service=service)
    try:
        async with open_channel(target, tls) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
    except (grpc.aio.AioRpcError, WorkerLost):
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def verify_info(target: str, timeout_s: float = PROBE_TIMEOUT_S) -> pb.GetVerifyInfoResponse:
    """Ask a verify worker what it is and how it is doing.

    Raises:
        ShortstackError: the worker cannot be reached or refuses.
    """
    async with open_channel(target) as channel:
        with translated_errors():
            answer: pb.GetVerifyInfoResponse = await stubs.VerifyServiceStub(channel).GetVerifyInfo(
                pb.GetVerifyInfoRequest(), timeout=timeout_s
            )
    return answer
