"""`shortstack up`: bring up a local stack, say where it listens, keep it up until told to stop.

A worker that dies is started again: a draft worker's death costs speed only, a verify worker's
sessions are replayed by the gateway where there is another cell. SIGUSR1 restarts all workers, one
by one, each when the last serves again: after a change of the model's files, or of this program's.
"""

import asyncio
import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shared.settings import TelemetrySettings, endpoint_fault, without_password
from shortstack import options
from shortstack.access import read_access
from shortstack.checkpoint import require_model_dir
from shortstack.children import Child
from shortstack.connect import LOCAL_GATEWAY
from shortstack.errors import StackError, Stopped, UsageError
from shortstack.http_address import HTTP_VARIABLE, LOCAL_HTTP, http_listen_of
from shortstack.plan import CellDefaults, CellKind, StackConfig
from shortstack.progress import StartProgress
from shortstack.rolling import restart_workers, worker_names
from shortstack.running import run_command
from shortstack.stack import Stack

POLL_S = 0.5
# A child that dies more often than this within the window is not started again.
MAX_RESTARTS = 5
RESTART_WINDOW_S = 60.0


def command(
    model: options.Model = None,
    name: Annotated[str, typer.Option(help="Name to serve it under.")] = "",
    cells: Annotated[int, typer.Option(min=1, help="Number of cells.")] = 1,
    cell: options.Cell = CellKind.SPLIT,
    listen: Annotated[str, typer.Option(help="Where the gateway listens.")] = LOCAL_GATEWAY,
    http: Annotated[
        str,
        typer.Option(
            envvar=HTTP_VARIABLE,
            help="Where it serves the OpenAI API: HOST:PORT or unix:/path; `none`: nowhere.",
        ),
    ] = LOCAL_HTTP,
    redis_url: Annotated[
        str, typer.Option(help="Redis to use; `none`: no registry. Default: one of our own.")
    ] = "",
    dtype: options.DType = None,
    device: options.Device = None,
    num_threads: options.NumThreads = None,
    method: options.Method = None,
    exit_layer: options.ExitLayer = None,
    draft_len: options.DraftLen = None,
    stop_threshold: options.StopThreshold = None,
    policy: options.Policy = "",
    draft_vocab: options.DraftVocab = None,
    exit_adapters: options.ExitAdapters = None,
    draft_adapters: options.DraftAdapters = None,
    acceptance_heads: options.AcceptanceHeads = None,
    trace: Annotated[
        Path | None, typer.Option(help="Leave a trace of the last steps here, for Perfetto.")
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(help="First port for metrics, one per process; 0: none.", min=0)
    ] = 0,
    otlp: Annotated[
        str, typer.Option(help="Send traces of requests to this OTLP endpoint, host:port.")
    ] = "",
    sampling_ratio: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of requests traced; default 0.01.")
    ] = None,
    log_dir: Annotated[Path | None, typer.Option(help="Keep the processes' logs here.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Bring up a local stack and keep it up; Ctrl-C stops it."""
    if fault := endpoint_fault(otlp):
        raise UsageError(f"--otlp: {fault}")
    if sampling_ratio is not None and not otlp:
        raise UsageError("--sampling-ratio needs --otlp, where traces go")
    config = StackConfig(
        model=require_model_dir(model),
        model_name=name,
        num_cells=cells,
        cell_kind=cell,
        listen=listen,
        http=http_listen_of(http),
        redis_url=redis_url,
        dtype=dtype,
        device=device,
        num_threads=num_threads,
        draft_vocab=draft_vocab,
        exit_adapters=exit_adapters,
        draft_adapters=draft_adapters,
        acceptance_heads=acceptance_heads,
        log_level=log_level,
        defaults=CellDefaults(method, exit_layer, draft_len, stop_threshold, policy),
        trace=trace.resolve() if trace else None,
        otlp=otlp,
        sampling_ratio=sampling_ratio,
        log_dir=log_dir,
        metrics_port=metrics_port,
        access=read_access(os.environ),
    )
    console = Console(stderr=True)
    try:
        run_command(keep_up(config, console))
    except Stopped:
        console.print("stopped")  # what was asked for: not a failure


async def keep_up(config: StackConfig, console: Console) -> None:
    """Start the stack and watch over it."""
    is_renewal_wanted = asyncio.Event()
    # Before anything starts: the signal's default would end this process.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, is_renewal_wanted.set)
    with StartProgress(console) as progress:
        stack = Stack(config, progress.observe)
        await stack.start()
    try:
        console.print(describe(stack))
        logs = next(iter(stack.children.values())).log_path.parent
        console.print(f"logs: {logs}", soft_wrap=True, highlight=False)
        if config.otlp:
            console.print(describe_tracing(config), soft_wrap=True, highlight=False)
        console.print(
            f'try: shortstack generate "Once upon a time" --target {stack.target}',
            soft_wrap=True,
            highlight=False,
        )
        if stack.http_url:
            console.print(f"OpenAI API: {openai_url(stack)}", soft_wrap=True, highlight=False)
        if stack.page_url:
            console.print(f"web page: {stack.page_url}", soft_wrap=True, highlight=False)
        await watch(stack, console, is_renewal_wanted)
    finally:
        await stack.stop()


def openai_url(stack: Stack) -> str:
    """Return what clients call the base URL."""
    is_tcp = stack.http_url.startswith("http")
    return f"{stack.http_url}/v1" if is_tcp else f"{stack.http_url}, below /v1"


def describe(stack: Stack) -> Table:
    """Say where everything listens."""
    table = Table("process", "pid")
    table.add_column("listens on", overflow="fold")
    urls = stack.metrics_urls
    if urls:
        table.add_column("metrics", overflow="fold")
    faces = [stack.target, stack.http_url]
    places = {"gateway": ", ".join(filter(None, faces)), "redis": without_password(stack.redis_url)}
    for cell in stack.cells:
        places[cell.verify.name] = cell.verify_target
        if cell.draft is not None:
            places[cell.draft.name] = cell.draft_target
    for child in stack.children.values():
        row = [child.name, str(child.pid), places[child.name]]
        table.add_row(*row, *([urls.get(child.name, "")] if urls else []))
    if "redis" not in stack.children:
        table.add_row("redis", "", without_password(stack.redis_url) or "none: static cells")
    return table


def describe_tracing(config: StackConfig) -> str:
    """Say where traces go, and of how many requests."""
    ratio = config.sampling_ratio
    if ratio is None:
        ratio = TelemetrySettings.model_fields["sampling_ratio"].default
    return f"traces: {ratio:.3g} of all requests (--sampling-ratio), to {config.otlp}"


async def watch(stack: Stack, console: Console, is_renewal_wanted: asyncio.Event) -> None:
    """Start children again that have ended, and all workers where wished; return never.

    Raises:
        StackError: a child ends again and again.
    """
    ends_s: dict[str, deque[float]] = {}
    while True:
        if is_renewal_wanted.is_set():
            is_renewal_wanted.clear()
            await renew(stack, console)
        for child in stack.poll():
            times = ends_s.setdefault(child.name, deque(maxlen=MAX_RESTARTS))
            restart(stack, child, times, console)
        await asyncio.sleep(POLL_S)


async def renew(stack: Stack, console: Console) -> None:
    """Restart all workers one by one; one that does not come back is left to `watch`."""
    try:
        async with asyncio.timeout(len(stack.children) * stack.config.start_timeout_s):
            await restart_workers(stack, worker_names(stack), console.print)
    except (StackError, TimeoutError) as error:
        console.print(f"restarting one by one stopped: {error or 'it took too long'}")


def restart(stack: Stack, child: Child, ends_s: deque[float], console: Console) -> None:
    """Start a child again, unless it has ended too often."""
    now_s = time.monotonic()
    if len(ends_s) == MAX_RESTARTS and now_s - ends_s[0] < RESTART_WINDOW_S:
        raise StackError(f"gave up on {child.describe_end()}")
    ends_s.append(now_s)
    console.print(f"{child.name} ended with status {child.exit_status}; starting it again")
    stack.restart(child.name)
