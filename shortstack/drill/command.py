"""`shortstack drill`: break a stack under load, one fault after the other; say what became of it.

Prints what was promised and what happened. Exit status 1 if a promise was broken: a request lost, a
token that differs from plain decoding, speculation that stays away, anything held for good. The
same seed strikes the same places at the same times. All faults are undone, whatever ends the run.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shortstack import options
from shortstack.bench.arguments import publish
from shortstack.bench.serve.command import wide_console
from shortstack.bench.turn_progress import TurnProgress
from shortstack.checkpoint import require_model_dir
from shortstack.drill.faults import FAULTS, choose_faults
from shortstack.drill.plan import plan_strikes
from shortstack.drill.run import DrillPlan, run_drills
from shortstack.drill.view import list_of_faults, table_of
from shortstack.errors import UsageError
from shortstack.plan import StackConfig
from shortstack.running import run_command


def command(
    only: Annotated[list[str] | None, typer.Option(help="Run this drill; repeatable.")] = None,
    lists: Annotated[bool, typer.Option("--list", help="List the drills and end.")] = False,
    model: options.Model = None,
    cells: Annotated[int, typer.Option(min=1, help="Cells of the stack.")] = 2,
    clients: Annotated[int, typer.Option(min=1, help="Clients that ask all the time.")] = 6,
    duration: Annotated[float, typer.Option(min=0.5, help="Seconds that a fault lasts.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="Of requests, places and times.")] = 1,
    num_threads: options.NumThreads = 1,
    log_dir: Annotated[Path | None, typer.Option(help="Keep the processes' logs here.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write JSON to this file.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Break a stack under load and check the promises of the fault model."""
    if lists:
        _print_list(as_json)
        return
    faults = choose_faults(only or [])
    if output is not None and output.is_dir():
        raise UsageError(f"--output {output} is a folder: name a file")
    config = StackConfig(
        model=require_model_dir(model),
        num_cells=cells,
        num_threads=num_threads,
        # The reference by which differing answers are judged runs in it, too.
        dtype="float32",
        log_dir=log_dir,
    )
    strikes = plan_strikes(faults, seed, cells, duration)
    plan = DrillPlan(config, strikes, clients, seed, duration)
    with TurnProgress(len(strikes), tells_stages=True) as progress:
        watcher = progress.watcher()
        # Warnings are what drills are for: the verdict looks for them.
        watcher.on_event = lambda name, event: None
        report = run_command(run_drills(plan, watcher))
    publish(report.to_json(), as_json, output)
    if not as_json:
        wide_console().print(table_of(report))
    broken = report.broken()
    for line in broken:
        print(line, file=sys.stderr)
    if broken:
        raise typer.Exit(1)


def _print_list(as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"drill": each.name, "promise": each.promise} for each in FAULTS]))
    else:
        Console().print(list_of_faults())
