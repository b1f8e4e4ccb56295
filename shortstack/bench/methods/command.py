"""`shortstack bench methods`: all ways to draft, chains and trees, and the controller's choice.

    shortstack bench methods --model DIR --prompts FILE.jsonl --exit-layer 3 --draft-len 8

Exit status 1 when a method emitted other tokens than plain decoding that are no near tie. Loads no
torch in its own process.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from shortstack import options
from shortstack.bench.arguments import publish
from shortstack.bench.methods.contenders import Settings
from shortstack.bench.methods.report import plot as draw
from shortstack.bench.methods.report import table_of
from shortstack.bench.methods.run import MethodsPlan, measure_methods
from shortstack.bench.prompts import read_bench_prompts, tokenizer_of
from shortstack.bench.runners import Work
from shortstack.bench.serve.command import wide_console
from shortstack.bench.turn_progress import TurnProgress
from shortstack.checkpoint import require_model_dir
from shortstack.plan import CellKind, StackConfig
from shortstack.running import run_command


def command(
    prompts: Annotated[list[Path], typer.Option(help="JSON lines: id, kind, prompt; repeatable.")],
    model: options.Model = None,
    methods: Annotated[str, typer.Option(help="By comma; all that the model has.")] = "",
    exit_layer: Annotated[int, typer.Option(min=1, help="Of layerskip, chain and tree.")] = 3,
    draft_len: Annotated[int, typer.Option(min=1, help="Likewise, most drafts in a row.")] = 4,
    kangaroo_len: Annotated[int | None, typer.Option(min=1, help="Kangaroo's drafts.")] = None,
    swift_len: Annotated[int | None, typer.Option(min=1, help="Swift's drafts.")] = None,
    max_new_tokens: options.MaxNewTokens = 128,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Times that all is measured.")] = 3,
    fused: Annotated[bool, typer.Option(help="One process drafts and verifies.")] = False,
    draft_adapters: Annotated[
        str | None, typer.Option(help="Folder of draft adapters; default: the model's own.")
    ] = None,
    num_threads: options.NumThreads = None,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw bars into this PNG.")] = None,
) -> None:
    """Compare all ways to draft, side by side in one run."""
    model_dir = require_model_dir(model)
    plan = MethodsPlan(
        stack=StackConfig(
            model=model_dir,
            cell_kind=CellKind.FUSED if fused else CellKind.SPLIT,
            draft_adapters=draft_adapters,
            num_threads=num_threads,
        ),
        prompts=read_bench_prompts(prompts, tokenizer_of(model_dir), limit),
        settings=Settings(exit_layer, draft_len, kangaroo_len, swift_len),
        work=Work(max_new_tokens, ()),
        repeats=repeats,
        only=methods,
    )
    with TurnProgress(0, tells_stages=True) as progress:
        report = run_command(measure_methods(plan, progress.watcher()))
    publish(report.to_json(), as_json, out)
    if plot is not None:
        draw(report, plot)
    if not as_json:
        wide_console().print(table_of(report))
    for name, prompt_id, difference in report.differences:
        print(f"{prompt_id}: {name} differs at {difference}", file=sys.stderr)
    if report.num_mismatches:
        sys.exit(1)
