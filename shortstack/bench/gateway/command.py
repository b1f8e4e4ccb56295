"""`shortstack bench gateway`: what the gateway alone adds to a request.

One plain cell decodes without drafts, a token a message: the most messages that a cell makes, and
the same work whoever asks. Its requests come straight, through the gateway by gRPC, and by HTTP, in
turns; differences are of turns that followed each other. Its worker has one thread, so that a core
is left to gateway and clients on a machine of two: what is to be measured is the gateway, not how
processes share a core.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.telemetry.machine import describe_machine
from shortstack import options
from shortstack.bench.arguments import parse_numbers, publish
from shortstack.bench.gateway.callers import open_callers
from shortstack.bench.gateway.figures import figures_of, table, verdict_table, verdicts_of
from shortstack.bench.gateway.turns import SessionIds, Turn, TurnTaker
from shortstack.bench.prompts import read_bench_prompts, tokenizer_of
from shortstack.bench.report import rounded_values
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.plan import CellKind, StackConfig
from shortstack.running import run_command
from shortstack.stack import Stack

# Sessions whose rounds a worker still tells after their end.
MAX_CLIENTS = 64


def command(
    prompts: Annotated[list[Path], typer.Option(help="JSON lines; repeatable.")],
    model: options.Model = None,
    clients: Annotated[str, typer.Option(help="Numbers of sessions at once, by comma.")] = "1,16",
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 64,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 0,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each way at each load.")] = 40,
    num_threads: Annotated[
        int, typer.Option(min=0, help="Of the worker; 0: as each pass is worth.")
    ] = 1,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
) -> None:
    """Measure what the gateway adds to a request."""
    model_dir = require_model_dir(model)
    numbers = parse_numbers("--clients", clients, int)
    if not numbers or min(numbers) < 1 or max(numbers) > MAX_CLIENTS:
        raise UsageError(f"--clients takes numbers from 1 to {MAX_CLIENTS}; got {clients!r}")
    found = read_bench_prompts(prompts, tokenizer_of(model_dir), limit)
    token_ids = [each.token_ids for each in found]
    config = StackConfig(
        model_dir, cell_kind=CellKind.PLAIN, http="127.0.0.1:0", num_threads=num_threads
    )
    machine = describe_machine()
    turns = run_command(measure(config, token_ids, numbers, repeats, max_new_tokens))
    loads = figures_of(turns)
    result: dict[str, Any] = {
        "conditions": {
            "model": model_dir.name,
            "num_prompts": len(found),
            "prompt_lens": [len(each) for each in token_ids],
            "max_new_tokens": max_new_tokens,
            "repeats": repeats,
            "num_threads": num_threads,
            "cell_kind": CellKind.PLAIN.value,
        },
        "machine": asdict(machine),
        "loads": loads,
        "verdicts": verdicts_of(loads),
        "turns": [asdict(turn) for turn in turns],
    }
    publish(rounded_values(result), as_json, out)
    if not as_json:
        print(table(loads))
        print(verdict_table(result["verdicts"]))


async def measure(
    config: StackConfig,
    prompts: Sequence[tuple[int, ...]],
    numbers: Sequence[int],
    repeats: int,
    max_new_tokens: int,
) -> list[Turn]:
    """Bring a stack up and let the ways take turns at every load."""
    ids, turns = SessionIds(), []
    async with (
        Stack(config, ids.observe) as stack,
        open_callers(stack, max(numbers)) as callers,
    ):
        taker = TurnTaker(stack, callers, ids)
        for num_clients in numbers:
            turns += await taker.take_all(prompts, num_clients, repeats, max_new_tokens)
    return turns
