"""`shortstack bench telemetry`: what tracing costs, in tokens per second through the gateway.

Three stacks are up at once and take turns: one that does not trace, one at the default sampling
ratio, one that traces every request. Spans go to a receiver in this process, so its work is in the
figures too. `--with` sets more variables on the stacks that trace, to measure other telemetry
together with it.
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
from shortstack.bench.telemetry_turns import Turn, clients_of, figures_of, table, take_turns
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
    max_new_tokens: options.MaxNewTokens = 128,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each stack at each load.")] = 12,
    more: Annotated[
        list[str] | None, typer.Option("--with", help="NAME=VALUE for the stacks that trace.")
    ] = None,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
) -> None:
    """Measure what tracing costs."""
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
        "repeats": repeats,
        "default_ratio": TelemetrySettings().sampling_ratio,
        "with": environ,
    }
    config = StackConfig(model=model_dir)
    result = run_command(measure(config, environ, requests, numbers, repeats))
    publish(conditions | result, as_json, out)
    if not as_json:
        print(table(result["loads"]))


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
    repeats: int,
) -> dict[str, Any]:
    """Let the stacks take turns; return machine, figures and turns."""
    machine = asdict(describe_machine())
    spans: list[ReceivedSpan] = []
    turns: list[Turn] = []
    async with (
        SpanReceiver("127.0.0.1:0", spans.extend) as receiver,
        clients_of(config, receiver.address, environ) as clients,
    ):
        for num_clients in numbers:
            turns += await take_turns(clients, requests, num_clients, repeats)
    return {
        "machine": machine,
        "num_spans_received": len(spans),
        "loads": figures_of(turns),
        "turns": [asdict(turn) for turn in turns],
    }
