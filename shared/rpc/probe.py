"""Health check for containers and scripts: `python -m shared.rpc.probe TARGET [SERVICE]`.

Exit status 0 when the service at TARGET (`host:port` or `unix:/path`) says SERVING, else 1.
"""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def probe(target: str, service: str = "", timeout_s: float = 1.0) -> bool:
    """Return whether the service answers SERVING within the timeout."""
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(arguments: list[str]) -> int:
    """Run the probe as a command."""
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    target, service = [*arguments, ""][:2]
    return 0 if probe(target, service) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
