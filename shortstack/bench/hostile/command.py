"""`shortstack bench hostile`: attack a stack of one cell, and say how it took that.

Prints how the calls ended, by method or endpoint. Exit status 1 if a process died, a call ended
with INTERNAL or UNKNOWN, a request without an answer or with a server error that is not the
server's being overloaded, or if pages, sessions, files, processes or shared memory were lost. The
same seed sends the same messages.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shortstack import options
from shortstack.bench.hostile.http_stand import attack_http, http_bugs_in
from shortstack.bench.hostile.remains import Belongings, num_fds, settled_losses
from shortstack.bench.hostile.stand import Tally, attack_stack, bugs_in, targets_of
from shortstack.bench.open_bench import Watcher
from shortstack.bench.turn_progress import TurnProgress
from shortstack.checkpoint import require_model_dir
from shortstack.plan import StackConfig
from shortstack.running import run_command
from shortstack.stack import Stack

# Opens what stays open for good, before files are counted.
NUM_FIRST_ATTACKS = 50


class Face(StrEnum):
    """What is attacked."""

    GRPC = "grpc"
    HTTP = "http"
    BOTH = "both"


def command(
    model: options.Model = None,
    num: Annotated[int, typer.Option(min=1, help="Calls, of all faces together.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the messages.")] = 1,
    face: Annotated[
        Face, typer.Option(help="gRPC ports of all services, the gateway's HTTP port, or both.")
    ] = Face.BOTH,
    log_dir: Annotated[Path | None, typer.Option(help="Keep the processes' logs here.")] = None,
) -> None:
    """Send hostile calls to a stack; print how they ended and what they left behind."""
    config = StackConfig(
        require_model_dir(model), num_threads=1, log_dir=log_dir, http="127.0.0.1:0"
    )
    nums = nums_of(face, num)
    with TurnProgress(num + 2 * NUM_FIRST_ATTACKS, tells_stages=True) as progress:
        tally, faults = run_command(attack(config, nums, seed, progress.watcher()))
    Console().print(table_of(tally))
    print(f"{sum(tally.values())} calls with seed {seed}; faults: {len(faults) or 'none'}")
    for fault in faults:
        print(f"  {fault}")
    if faults:
        raise typer.Exit(1)


def nums_of(face: Face, num: int) -> dict[Face, int]:
    """Share the calls out."""
    if face is not Face.BOTH:
        return {face: num}
    return {Face.GRPC: num // 2, Face.HTTP: num - num // 2}


async def attack(
    config: StackConfig, nums: dict[Face, int], seed: int, watcher: Watcher
) -> tuple[Tally, list[str]]:
    """Attack a stack of its own; return how the calls ended, and what is wrong."""
    watcher.on_stage("bringing the stack up")
    async with Stack(config) as stack:
        owned = Belongings.of(stack)
        watcher.on_stage("first calls")
        await attack_faces(stack, dict.fromkeys(nums, NUM_FIRST_ATTACKS), seed + 1, watcher)
        before = num_fds(stack)
        tally = await attack_faces(stack, nums, seed, watcher)
        watcher.on_stage("looking for what is still held")
        faults = bugs_in(tally) + http_bugs_in(tally)
        faults += await settled_losses(stack, before)
    return tally, faults + owned.left()


async def attack_faces(stack: Stack, nums: dict[Face, int], seed: int, watcher: Watcher) -> Tally:
    """Attack one face after the other."""
    tally: Tally = Tally()
    for face, num in nums.items():
        watcher.on_stage(f"{num} calls by {face}")
        if face is Face.GRPC:
            tally += await attack_stack(targets_of(stack), num, seed, on_call=watcher.on_turn)
        else:
            tally += await attack_http(stack.http_url, num, seed, on_call=watcher.on_turn)
    return tally


def table_of(tally: Tally) -> Table:
    """Show how many calls of each method ended how."""
    table = Table("method", "ended with", "calls")
    for (method, code), num in sorted(tally.items()):
        table.add_row(method, code, str(num))
    return table
