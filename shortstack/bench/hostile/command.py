"""`shortstack bench hostile`: attack a stack of one cell, and say how it took that.

Prints how the calls ended, by method. Exit status 1 if a process died, a call ended with
INTERNAL or UNKNOWN, or pages, sessions or file descriptors were lost. The same seed sends the same
messages.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shortstack import options
from shortstack.bench.hostile.stand import (
    Tally,
    attack_stack,
    bugs_in,
    num_fds,
    settled_losses,
    targets_of,
)
from shortstack.checkpoint import require_model_dir
from shortstack.plan import StackConfig
from shortstack.running import run_command
from shortstack.stack import Stack

# Opens what stays open for good, before files are counted.
NUM_FIRST_ATTACKS = 50


def command(
    model: options.Model = None,
    num: Annotated[int, typer.Option(min=1, help="Calls.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the messages.")] = 1,
    log_dir: Annotated[Path | None, typer.Option(help="Keep the processes' logs here.")] = None,
) -> None:
    """Send hostile calls to a stack; print how they ended and what they left behind."""
    config = StackConfig(model=require_model_dir(model), num_threads=1, log_dir=log_dir)
    tally, faults = run_command(attack(config, num, seed))
    Console().print(table_of(tally))
    print(f"{sum(tally.values())} calls with seed {seed}; faults: {len(faults) or 'none'}")
    for fault in faults:
        print(f"  {fault}")
    if faults:
        raise typer.Exit(1)


async def attack(config: StackConfig, num: int, seed: int) -> tuple[Tally, list[str]]:
    """Attack a stack of its own; return how the calls ended, and what is wrong."""
    async with Stack(config) as stack:
        targets = targets_of(stack)
        await attack_stack(targets, NUM_FIRST_ATTACKS, seed + 1)
        before = num_fds(stack)
        tally = await attack_stack(targets, num, seed)
        return tally, bugs_in(tally) + await settled_losses(stack, before)


def table_of(tally: Tally) -> Table:
    """Show how many calls of each method ended how."""
    table = Table("method", "ended with", "calls")
    for (method, code), num in sorted(tally.items()):
        table.add_row(method, code, str(num))
    return table
