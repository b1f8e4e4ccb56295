"""The verify worker: `python -m services.verify.main`, configured by SHORTSTACK_* variables."""

import asyncio
import logging
import os
import sys
import time

from services.verify.cell import Cell
from services.verify.cell_signals import make_cell_board
from services.verify.events import MoveAll
from services.verify.servicer import VerifyServicer
from services.verify.settings import VerifyServiceSettings, VerifySettings
from shared.control.registry import LeasePublisher
from shared.errors import BadModel, ShortstackError
from shared.model.compute_threads import ComputeThreads
from shared.model.config import read_config
from shared.model.layer_stack import Heads, LayerStack
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
from shared.telemetry.logs import configure_logs
from shared.telemetry.metrics_server import MetricsServer

log = logging.getLogger(__name__)

SERVICE_NAME = "shortstack.v1.VerifyService"
SPECULATION = "speculation"
# See services/draft/main.py: the event loop and the engine share one interpreter lock.
SWITCH_INTERVAL_S = 0.0002
DRAIN_POLL_S = 0.02
MOVE_GRACE_S = 1.0


class VerifyWorker:
    """One verify worker's life: serve, drain, end."""

    def __init__(
        self,
        settings: VerifyServiceSettings,
        stack: LayerStack,
        metrics: MetricsServer | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics or MetricsServer()
        self._shutdown = ShutdownSignal()
        self._cell = Cell(settings, stack, self._shutdown.fail)
        self._server = ServiceServer(
            [SERVICE_NAME],
            has_reflection=settings.verify.has_reflection,
            security=security_of(settings.verify),
        )
        self._address = ""
        self._publisher = LeasePublisher(settings.redis, lambda: self._cell.lease(self._address))
        self._servicer = VerifyServicer(self._cell, self._begin_drain)
        pb_grpc.add_VerifyServiceServicer_to_server(self._servicer, self._server.grpc_server)
        self._drain_task: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Serve until a signal, a finished drain or a fatal error."""
        await self._server.set_serving(SPECULATION, False)
        self._address = self._server.bind(self._settings.verify.listen)
        self._cell.start(self._hear_of_speculation)
        self._metrics.show(make_cell_board(self._cell, self._servicer.refused))
        if self._settings.verify.cell_kind == "fused":
            await self._server.set_serving(SPECULATION, True)
        await self._server.start()
        self._publisher.start()
        log.info(
            "listening",
            extra={
                "address": self._address,
                "worker_id": self._cell.worker_id,
                "metrics": self._metrics.url,
            },
        )
        await self._shutdown.wait()
        if self._shutdown.error is not None:
            # Sessions end with their streams; the gateway replays them elsewhere.
            await self._publisher.withdraw()
            self._cell.pool.close()
            await asyncio.to_thread(self._cell.close_tracing)
            raise self._shutdown.error
        await self._drain(self._settings.verify.drain_timeout_ms / 1000)
        await self._server.stop(MOVE_GRACE_S)
        self._metrics.close()
        await self._cell.close()

    async def _hear_of_speculation(self, is_on: bool) -> None:
        await self._server.set_serving(SPECULATION, is_on)

    async def _begin_drain(self, timeout_s: float) -> None:
        if self._drain_task is None:
            self._cell.engine.roster.is_draining = True
            self._drain_task = asyncio.create_task(self._drain_and_end(timeout_s))

    async def _drain_and_end(self, timeout_s: float) -> None:
        await self._drain(timeout_s)
        self._shutdown.request()

    async def _drain(self, timeout_s: float) -> None:
        """Leave the registry, refuse new sessions, let running ones finish, move the rest."""
        engine = self._cell.engine
        engine.roster.is_draining = True
        await self._publisher.withdraw()
        await self._server.enter_graceful_shutdown()
        deadline_s = time.monotonic() + timeout_s
        while len(engine.roster) and time.monotonic() < deadline_s:
            await asyncio.sleep(DRAIN_POLL_S)
        if len(engine.roster):
            log.warning("moving sessions", extra={"num_sessions": len(engine.roster)})
            engine.post(MoveAll("the worker is shutting down"))


def load_verify_stack(settings: VerifyServiceSettings) -> LayerStack:
    """Load all layers, and where anybody drafts, what exits are read with.

    In a split cell too: evidence of an exit is what the draft worker would have drafted there, so
    this worker needs the same draft head, vocabulary and adapters. As it drafts nothing itself, it
    serves without those that are not sound; what it reads is then no evidence of a draft worker
    that has others, see `RemoteDrafter.reads_alike`.
    """
    config = read_config(settings.model.path, settings.model.dtype)
    device, kind = settings.model.device, settings.verify.cell_kind
    if kind == "plain":
        return LayerStack(config, device, None, ProgressLog(), Heads.TARGET)
    # Not to be gone without: whoever passes an adapter's exit writes its KV, this worker too.
    drafting = config.find_draft_adapters(settings.model.draft_adapters)
    try:
        vocab = config.find_draft_vocab(settings.model.draft_vocab)
        adapters = config.find_exit_adapters(settings.model.exit_adapters)
        acceptance = config.find_acceptance_heads(settings.model.acceptance_heads)
    except BadModel as error:
        if kind == "fused":
            raise
        log.warning("exits are read without what drafts have", extra={"error": error.message})
        vocab = adapters = acceptance = None
    return LayerStack(
        config, device, None, ProgressLog(), Heads.BOTH, vocab, adapters, drafting, acceptance
    )


def _warn_of_strangers(options: VerifySettings) -> None:
    has_mtls = options.tls_files is not None and options.tls_requires_client_cert
    if not options.listen.startswith("unix:") and not has_mtls:
        # Said, not refused: networks of containers are often closed to others.
        log.warning("whoever reaches this port may use the cell", extra={"at": options.listen})


def main() -> None:
    """Read settings, load the model, serve."""
    try:
        settings = load_settings(VerifyServiceSettings, os.environ)
        configure_logs("verify", settings.log.level)
        log.info("settings", extra={"settings": settings.model_dump(mode="json")})
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        make_private_dir(settings.verify.runtime_dir, "SHORTSTACK_VERIFY__RUNTIME_DIR")
        check_private_socket(settings.verify.listen, "SHORTSTACK_VERIFY__LISTEN")
        _warn_of_strangers(settings.verify)
        metrics = MetricsServer(settings.verify.metrics_listen, "SHORTSTACK_VERIFY__METRICS_LISTEN")
        stack = load_verify_stack(settings)
        stack.threads = ComputeThreads.for_model(stack.config, settings.model.num_threads)
    except SettingsError as error:
        refuse_to_start("verify worker", str(error))
    except ShortstackError as error:
        refuse_to_start("verify worker", error.message)
    keep_what_is_loaded()
    asyncio.run(run(settings, stack, metrics))


async def run(settings: VerifyServiceSettings, stack: LayerStack, metrics: MetricsServer) -> None:
    """Build the worker inside the event loop and serve; what it refuses ends the process."""
    try:
        worker = VerifyWorker(settings, stack, metrics)
    except ShortstackError as error:
        refuse_to_start("verify worker", error.message)
    await worker.serve()


if __name__ == "__main__":
    main()
