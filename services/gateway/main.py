"""Runs the gateway: `python -m services.gateway.main`, options from the environment.

SIGTERM or SIGINT begins the drain: health says NOT_SERVING, new requests are refused, running ones
finish until the drain timeout, then the process ends with status 0. A second signal ends it sooner.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from services.gateway.admission import Admission, AdmissionLimits
from services.gateway.cells import CellChannels, CellSource, StaticCells
from services.gateway.completion import CompletionTools
from services.gateway.gateway_signals import make_gateway_board
from services.gateway.http_face.app import create_app
from services.gateway.http_face.metrics import metrics_router
from services.gateway.http_face.page import page_router
from services.gateway.http_face.server import HttpServer
from services.gateway.http_face.watching import watching_router
from services.gateway.key_interceptor import KeyInterceptor
from services.gateway.key_watch import KeyWatch
from services.gateway.model_infos import ModelInfos
from services.gateway.parts import GatewayParts
from services.gateway.request import RequestLimits
from services.gateway.request_metrics import RequestMetrics
from services.gateway.router import Router
from services.gateway.servicer import GatewayServicer
from services.gateway.settings import GatewayServiceSettings, GatewaySettings
from services.gateway.task_keys import TaskKeys, read_secret
from services.gateway.tokenizer import load_limits, load_tokenizer
from shared.control.registry import CellDirectory
from shared.errors import ShortstackError
from shared.ids import new_worker_id
from shared.rpc.credentials import UNIX, security_of
from shared.rpc.server import ServiceServer
from shared.rpc.shortstack_pb2_grpc import add_GatewayServiceServicer_to_server
from shared.settings import SettingsError, load_settings
from shared.telemetry import spans
from shared.telemetry.logs import configure_logs
from shared.telemetry.metrics_server import MetricsServer
from shared.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

SERVICE_NAME = "shortstack.v1.GatewayService"
# For requests that the end of a drain cuts off to tell their clients.
LAST_WORDS_S = 1.0
# Objects made and not freed between two looks of the garbage collector.
GC_THRESHOLD = 20_000


class Gateway:
    """All objects of one gateway process."""

    def __init__(self, settings: GatewayServiceSettings) -> None:
        """Read the model's files and bind the port; nothing is served yet.

        Raises:
            SettingsError: the API keys are malformed.
            BadModel: the model directory lacks a file or holds a malformed one.
            Internal: an address cannot be bound.
        """
        options = settings.gateway
        self._drain_timeout_s = options.drain_timeout_ms / 1000
        self._tracing = Tracing(spans.GATEWAY, settings.telemetry, new_worker_id("gateway"))
        self._channels = CellChannels(options.cells_tls_files, options.request_timeout_ms / 1000)
        self._cells = _cell_source(settings, self._channels)
        self._infos = ModelInfos(lambda: self._cells.cells, self._channels, options.poll_cells_ms)
        limits = _admission_limits(options)
        self._keys = KeyWatch(options.api_keys_path, options.api_keys, limits.of_tenant)
        self._admission = Admission(limits, limits_of=self._keys.limits_of)
        self._requests = RequestMetrics()
        self._router = Router(lambda: self._cells.cells)
        self._parts = self._make_parts(settings)
        door = KeyInterceptor(self._keys.authenticate, health_is_open=options.health_is_open)
        self._server = ServiceServer(
            [SERVICE_NAME],
            has_reflection=options.has_reflection,
            security=security_of(options),
            interceptors=[door],
        )
        servicer = GatewayServicer(self._parts)
        add_GatewayServiceServicer_to_server(servicer, self._server.grpc_server)
        self.address = self._server.bind(options.listen)
        self.metrics = MetricsServer(options.metrics_listen, "SHORTSTACK_GATEWAY__METRICS_LISTEN")
        self.metrics.show(
            make_gateway_board(
                settings.model.served_name,
                self._requests,
                self._admission,
                self._cells,
                self._router,
            )
        )
        self._http = self._make_http(options)
        self.http_url = self._http.url if self._http else ""
        # A browser does not reach a socket at a path.
        self.page_url = f"{self.http_url}/" if self._has_page(options) else ""

    async def start(self) -> None:
        """Look for cells and accept requests."""
        await self._cells.start()
        await self._infos.start()
        self._keys.start(self._admission.note_new_limits)
        await self._server.start()
        if self._http:
            await self._http.start()
        places = {
            "address": self.address,
            "http_url": self.http_url,
            "page_url": self.page_url,
            "metrics": self.metrics.url,
        }
        if not self._keys.are_needed and not self.address.startswith(UNIX):
            log.warning("no API keys: whoever reaches this port may call", extra=places)
        log.info("serving", extra={**places, "num_cells": len(self._cells.cells)})

    async def drain(self) -> None:
        """Refuse new requests and let running ones finish, up to the drain timeout."""
        log.info("draining", extra={"num_running": self._admission.num_running})
        await self._server.enter_graceful_shutdown()
        self._admission.close()
        if not await self._admission.wait_idle(self._drain_timeout_s):
            log.warning("drain timeout", extra={"num_cut_off": self._admission.num_running})
            self._parts.active.send_all_away()
            await self._admission.wait_idle(LAST_WORDS_S)

    async def stop(self) -> None:
        """Close everything; requests still running are cut off, and told so on both faces."""
        self._admission.close()
        self._parts.active.cut_off_all("the gateway shut down before the request had ended")
        if self._http:
            await self._http.stop()
        await self._server.stop(grace_s=0.1)
        await self._keys.stop()
        await self._infos.stop()
        await self._cells.stop()
        await self._channels.close()
        self.metrics.close()
        await asyncio.to_thread(self._tracing.close)

    def _make_http(self, options: GatewaySettings) -> HttpServer | None:
        if not options.http_listen:
            return None
        page = (page_router(), watching_router(self._parts)) if options.has_page else ()
        comment_s = options.sse_comment_ms / 1000
        app = create_app(self._parts, comment_s, metrics_router(self.metrics), *page)
        return HttpServer(app, options.http_listen, security_of(options))

    def _has_page(self, options: GatewaySettings) -> bool:
        return options.has_page and self.http_url.startswith("http")

    def _make_parts(self, settings: GatewayServiceSettings) -> GatewayParts:
        options, path = settings.gateway, settings.model.path
        tools = CompletionTools(
            tokenizer=load_tokenizer(path),
            admission=self._admission,
            router=self._router,
            channels=self._channels,
            max_replays=options.max_replays,
            task_keys=TaskKeys(read_secret(options.task_secret_path)),
            metrics=self._requests,
            tracing=self._tracing,
        )
        limits = RequestLimits(
            model_name=settings.model.served_name,
            model=load_limits(path),
            default_max_new_tokens=options.default_max_new_tokens,
            max_new_tokens=options.max_new_tokens,
            max_prompt_len=options.max_prompt_len,
        )
        return GatewayParts(
            tools,
            self._cells,
            self._infos,
            limits,
            request_timeout_s=options.request_timeout_ms / 1000,
            slow_reader_timeout_s=options.slow_reader_timeout_ms / 1000,
            authenticate=self._keys.authenticate,
            health_is_open=options.health_is_open,
        )


def _settle_memory() -> None:
    """Let the garbage collector pass over what lives as long as the process, and look less often.

    What a request leaves is freed by reference counts, so that a look seldom finds anything; each
    would come in the middle of some request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _admission_limits(options: GatewaySettings) -> AdmissionLimits:
    return AdmissionLimits(
        max_running=options.max_concurrent_requests,
        max_waiting=options.max_queued_requests,
        timeout_s=options.queue_timeout_ms / 1000,
        ageing_s=options.low_priority_ageing_ms / 1000,
        max_running_of_tenant=options.max_running_per_tenant,
        tenant_tokens_per_s=options.tenant_tokens_per_s,
        tenant_burst_tokens=options.burst_tokens,
    )


def _cell_source(settings: GatewayServiceSettings, channels: CellChannels) -> CellSource:
    options = settings.gateway
    if settings.redis.url:
        return CellDirectory(settings.redis, refresh_ms=options.poll_cells_ms)
    return StaticCells(options.cell_targets, channels, options.poll_cells_ms)


async def serve(settings: GatewayServiceSettings) -> None:
    """Run a gateway until a signal ends it."""
    gateway = Gateway(settings)
    signals: asyncio.Queue[None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    await gateway.start()
    _settle_memory()
    try:
        await signals.get()
        await _first_of(gateway.drain(), signals.get())
    finally:
        await gateway.stop()
    log.info("stopped")


async def _first_of(*waits: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()


def main() -> int:
    """Run as a command; return the exit status."""
    try:
        settings = load_settings(GatewayServiceSettings, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs("gateway", settings.log.level)
    log.info("settings", extra={"settings": settings.model_dump(mode="json")})
    try:
        asyncio.run(serve(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except ShortstackError as error:
        log.error("cannot serve", extra={"error": error.message})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
