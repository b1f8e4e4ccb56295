"""`shortstack bench telemetry`: what traces and metrics cost, in tokens per second and CPU time.

Two stacks are up at once and take turns: one without any telemetry, one that traces at the default
sampling ratio and whose metrics are scraped; with `--all` a third one, which traces every request.
Of two stacks that are all alike the one started first is some percent slower, so they are brought
up twice, in one order and in the other, and a block is made of turns of both times. Spans go to a
receiver in this process, so its work is in the figures too. `--with` sets more variables on the
stacks with telemetry, to measure something else together with it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.settings import TelemetrySettings
from shared.telemetry.machine import describe_machine
from shortstack import options
from shortstack.bench.arguments import parse_numbers, publish
from shortstack.bench.prompts import read_bench_prompts, tokenizer_of
from shortstack.bench.report import rounded_values
from shortstack.bench.telemetry_stacks import open_subjects
from shortstack.bench.telemetry_turns import (
    Measured,
    figures_of,
    process_table,
    table,
    take_turns,
)
from shortstack.bench.turn_progress import TurnProgress
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request, pinned
from shortstack.running import run_command
from shortstack.traces.receiver import ReceivedSpan, SpanReceiver


def command(
    prompts: Annotated[list[Path], typer.Option(help="JSON lines; repeatable.")],
    model: options.Model = None,
    clients: Annotated[str, typer.Option(help="Numbers of clients, by comma.")] = "1,4",
    exit_layer: Annotated[int, typer.Option(min=1, help="E of all rounds.")] = 3,
    draft_len: Annotated[int, typer.Option(min=0, help="d of all rounds.")] = 6,
    max_new_tokens: options.MaxNewTokens = 64,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 4,
    blocks: Annotated[
        int, typer.Option(min=1, help="Blocks (off, on, on, off; twice) at each load.")
    ] = 60,
    traces_all: Annotated[
        bool, typer.Option("--all", help="Also measure a stack that traces every request.")
    ] = False,
    more: Annotated[
        list[str] | None, typer.Option("--with", help="NAME=VALUE for stacks with telemetry.")
    ] = None,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
) -> None:
    """Measure what traces and metrics cost."""
    model_dir = require_model_dir(model)
    numbers = parse_numbers("--clients", clients, int)
    if not numbers or min(numbers) < 1:
        raise UsageError(f"--clients takes numbers from 1 on, by comma; got {clients!r}")
    environ = environ_of(more or [])
    found = read_bench_prompts(prompts, tokenizer_of(model_dir), limit)
    limits, setting = Limits(max_new_tokens, ignore_eos=True), pinned(exit_layer, draft_len)
    requests = [Request(each.token_ids, limits=limits, speculation=setting) for each in found]
    conditions = {
        "model": model_dir.name,
        "num_prompts": len(requests),
        "max_new_tokens": max_new_tokens,
        "exit_layer": exit_layer,
        "draft_len": draft_len,
        "blocks": blocks,
        "default_ratio": TelemetrySettings().sampling_ratio,
        "with": environ,
    }
    config = StackConfig(model=model_dir)
    measured = run_command(measure(config, environ, requests, numbers, blocks, traces_all))
    publish(rounded_values({"conditions": conditions} | measured), as_json, out)
    if not as_json:
        print(table(measured["loads"]))
        print(process_table(measured["loads"]))


def environ_of(more: Sequence[str]) -> dict[str, str]:
    """Read NAME=VALUE pairs.

    Raises:
        UsageError: one is none.
    """
    if wrong := [each for each in more if "=" not in each]:
        raise UsageError(f"--with takes NAME=VALUE; got {wrong[0]!r}")
    return dict(each.split("=", 1) for each in more)


async def measure(
    config: StackConfig,
    environ: dict[str, str],
    requests: Sequence[Request],
    numbers: Sequence[int],
    num_blocks: int,
    traces_all: bool,
) -> dict[str, Any]:
    """Let the stacks take turns; return machine, figures and turns."""
    machine = asdict(describe_machine())
    spans: list[ReceivedSpan] = []
    measured = Measured([], [], [])
    num_turns = 2 * len(numbers) * num_blocks * (8 if traces_all else 4)
    async with SpanReceiver("127.0.0.1:0", spans.extend) as receiver:
        with TurnProgress(num_turns) as progress:
            watcher = progress.watcher()
            for is_reversed in (False, True):
                watcher.on_stage("bringing the stacks up")
                opened = open_subjects(
                    config, receiver.address, environ, has_all=traces_all, is_reversed=is_reversed
                )
                async with opened as subjects:
                    for num_clients in numbers:
                        watcher.on_stage(f"{num_clients} clients")
                        measured += await take_turns(
                            subjects, requests, num_clients, num_blocks, watcher.on_turn
                        )
    return {
        "machine": machine,
        "num_spans_received": len(spans),
        "loads": figures_of(measured),
        **asdict(measured),
    }
