"""The draft worker: `python -m services.draft.main`, configured by SHORTSTACK_* variables."""

import asyncio
import contextlib
import logging
import os
import sys

from services.draft.draft_signals import make_draft_board
from services.draft.draft_tracer import DraftTracer
from services.draft.engine import DraftEngine
from services.draft.servicer import DraftServicer
from services.draft.settings import DraftServiceSettings
from shared.control.policies.exits import default_exits
from shared.errors import ShortstackError
from shared.ids import new_worker_id
from shared.model.compute_threads import ComputeThreads
from shared.model.config import read_config
from shared.model.layer_stack import Heads, LayerStack
from shared.model.segment import hold_lock
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.credentials import security_of
from shared.rpc.lifetime import (
    ProgressLog,
    ShutdownSignal,
    keep_what_is_loaded,
    refuse_to_start,
)
from shared.rpc.server import ServiceServer
from shared.settings import SettingsError, check_private_socket, load_settings, make_private_dir
from shared.telemetry import spans
from shared.telemetry.logs import configure_logs
from shared.telemetry.metrics_server import MetricsServer
from shared.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

SERVICE_NAME = "shortstack.v1.DraftService"
# Two threads of one process swap the interpreter lock many times per round; the default of 5 ms
# would make each wait for the other's slice.
SWITCH_INTERVAL_S = 0.0002
# For the last answers to reach the verify worker, once their streams were told to end.
STOP_GRACE_S = 0.5


def check_privacy(settings: DraftServiceSettings) -> None:
    """Refuse to be reached by strangers: who attaches makes this process map and write memory.

    Raises:
        SettingsError: names the option to mend.
    """
    draft = settings.draft
    make_private_dir(draft.runtime_dir, "SHORTSTACK_DRAFT__RUNTIME_DIR")
    check_private_socket(draft.listen, "SHORTSTACK_DRAFT__LISTEN")
    has_mtls = draft.tls_files is not None and draft.tls_requires_client_cert
    if draft.listen.startswith("unix:") or has_mtls:
        return
    if not draft.trusts_network:
        raise SettingsError(
            f"SHORTSTACK_DRAFT__LISTEN: {draft.listen} can be reached by strangers; use unix:/path "
            "in a directory of mode 700, or mTLS (SHORTSTACK_DRAFT__TLS_*, "
            "SHORTSTACK_DRAFT__TLS_REQUIRES_CLIENT_CERT), or say that nobody else is on that "
            "network: SHORTSTACK_DRAFT__TRUSTS_NETWORK=true"
        )
    log.warning("whoever reaches this port may write the cell's memory", extra={"at": draft.listen})


def load_draft_stack(settings: DraftServiceSettings) -> LayerStack:
    """Load the layers that drafting needs at first."""
    config = read_config(settings.model.path, settings.model.dtype)
    adapters = config.find_draft_adapters(settings.model.draft_adapters)
    # Loading more in the middle of a round would hold up everybody's.
    exits = (*default_exits(config.num_layers), *(each.exit_layer for each in adapters))
    num_layers = max(settings.draft.exit_layer, *exits, 1)
    return LayerStack(
        config,
        settings.model.device,
        num_layers,
        ProgressLog(),
        Heads.DRAFT,
        config.find_draft_vocab(settings.model.draft_vocab),
        config.find_exit_adapters(settings.model.exit_adapters),
        adapters,
        config.find_acceptance_heads(settings.model.acceptance_heads),
    )


async def serve(settings: DraftServiceSettings, stack: LayerStack, metrics: MetricsServer) -> None:
    """Serve until a signal or a fatal error."""
    shutdown = ShutdownSignal()
    worker_id = new_worker_id("draft")
    liveness = settings.draft.runtime_dir / f"{worker_id}.lock"
    lock_fd = hold_lock(liveness)
    tracing = Tracing(spans.DRAFT, settings.telemetry, worker_id)
    tracer = DraftTracer(tracing) if tracing.is_on else None
    engine = DraftEngine(stack, shutdown.fail, tracer)
    server = ServiceServer(
        [SERVICE_NAME],
        has_reflection=settings.draft.has_reflection,
        security=security_of(settings.draft),
    )
    servicer = DraftServicer(settings, worker_id, str(liveness), stack, engine)
    pb_grpc.add_DraftServiceServicer_to_server(servicer, server.grpc_server)
    address = server.bind(settings.draft.listen)
    engine.start()
    metrics.show(make_draft_board(settings.model.served_name, stack, engine, servicer))
    await server.start()
    log.info(
        "listening",
        extra={"address": address, "worker_id": worker_id, "metrics": metrics.url},
    )
    await shutdown.wait()
    await server.enter_graceful_shutdown()
    if shutdown.error is None:
        await _drain(servicer, settings.draft.drain_timeout_ms / 1000)
    await server.stop(STOP_GRACE_S)
    metrics.close()
    if shutdown.error is None:
        engine.stop()
    await asyncio.to_thread(close_tracing, tracing, tracer)
    if shutdown.error is not None:
        raise shutdown.error
    with contextlib.suppress(FileNotFoundError):
        liveness.unlink()
    os.close(lock_fd)


async def _drain(servicer: DraftServicer, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(servicer.drain(), timeout_s)
    except TimeoutError:
        log.warning("drain timeout", extra={"timeout_s": timeout_s})


def close_tracing(tracing: Tracing, tracer: DraftTracer | None) -> None:
    """Send the spans that are left, for a bounded time."""
    if tracer is not None:
        tracer.close()
    tracing.close()


def main() -> None:
    """Read settings, load the model, serve."""
    try:
        settings = load_settings(DraftServiceSettings, os.environ)
        configure_logs("draft", settings.log.level)
        log.info("settings", extra={"settings": settings.model_dump(mode="json")})
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        check_privacy(settings)
        metrics = MetricsServer(settings.draft.metrics_listen, "SHORTSTACK_DRAFT__METRICS_LISTEN")
        stack = load_draft_stack(settings)
        stack.threads = ComputeThreads.for_model(stack.config, settings.model.num_threads)
    except SettingsError as error:
        refuse_to_start("draft worker", str(error))
    except ShortstackError as error:
        refuse_to_start("draft worker", error.message)
    keep_what_is_loaded()
    asyncio.run(serve(settings, stack, metrics))


if __name__ == "__main__":
    main()
