"""Health check for containers and scripts:

    python -m shared.rpc.probe [--ca FILE [--cert FILE --key FILE]] TARGET [SERVICE]

Exit status 0 when the service at TARGET (`host:port` or `unix:/path`) says SERVING, else 1. With
--ca the port has TLS; --cert and --key are shown where it asks for a certificate.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.access.tls_files import TlsFaults, TlsFiles
from shared.rpc.credentials import UNIX, channel_credentials


def probe(
    target: str, service: str = "", timeout_s: float = 1.0, tls: TlsFiles | None = None
) -> bool:
    """Return whether the service answers SERVING within the timeout."""
    with _channel(target, tls) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _channel(target: str, tls: TlsFiles | None) -> grpc.Channel:
    if tls is None or target.startswith(UNIX):
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, channel_credentials(tls))


def main(arguments: Sequence[str]) -> int:
    """Run the probe as a command."""
    parser = argparse.ArgumentParser(prog="probe", description="Ask a port for its health.")
    parser.add_argument("target")
    parser.add_argument("service", nargs="?", default="")
    for option in ("--ca", "--cert", "--key"):
        parser.add_argument(option, type=Path)
    options = parser.parse_args(arguments)
    tls = TlsFiles(options.cert, options.key, options.ca) if options.ca else None
    try:
        return 0 if probe(options.target, options.service, tls=tls) else 1
    except TlsFaults as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
