"""`shortstack exits`: how good a model's early exits are, and whether speculating with them pays.

    shortstack exits --model DIR --prompts FILE.jsonl --json exits.json --plot exits.png

Runs in this process, without a stack: the model decodes its own text, one pass over that text reads
every exit, rounds of every static setting are replayed over what was read, and the times of this
machine's layers and head say what they cost. Everything given is checked before any of it begins.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared.speculation.draft_vocab import AUTO
from shortstack import options
from shortstack.bench.arguments import parse_numbers
from shortstack.checkpoint import require_model_dir
from shortstack.exits.options import (
    ExitsPlan,
    check_thresholds,
    require_package,
    require_picture,
    require_writable,
)
from shortstack.exits.plot import plot_report
from shortstack.exits.prompts import read_fitting_prompts
from shortstack.exits.report import ExitsReport
from shortstack.exits.view import show_report
from shortstack.progress import Bars

DEFAULT_THRESHOLDS = "0,0.2,0.4,0.6,0.8"


def command(
    prompts: Annotated[list[Path], typer.Option(help="JSON lines: id, kind, prompt; repeatable.")],
    model: options.Model = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything into this file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw heat-maps into this PNG.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 0,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "--max-tokens", min=2, help="Tokens of each text.")
    ] = 128,
    max_draft_len: Annotated[
        int, typer.Option(min=1, max=32, help="Longest draft to consider.")
    ] = 8,
    thresholds: Annotated[
        str, typer.Option(help="Stop thresholds to consider, by comma.")
    ] = DEFAULT_THRESHOLDS,
    hand_over_ms: Annotated[
        float,
        typer.Option(
            "--hand-over-ms",
            "--handover-ms",
            min=0,
            help="Milliseconds per round between the two workers; 0: one process.",
        ),
    ] = 0.0,
    cost_runs: Annotated[int, typer.Option(min=1, help="Times that each part is timed.")] = 15,
    num_threads: Annotated[
        int,
        typer.Option(
            "--num-threads", "--threads", min=0, help="Compute threads; 0: as workers have."
        ),
    ] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or a CUDA device such as cuda:0.")] = "cpu",
    draft_vocab: options.DraftVocab = AUTO,
    exit_adapters: options.ExitAdapters = AUTO,
) -> None:
    """Look at a model's early exits, and predict what speculating with them brings."""
    plan = ExitsPlan(
        model_dir=require_model_dir(model),
        max_new_tokens=max_new_tokens,
        max_draft_len=max_draft_len,
        stop_thresholds=check_thresholds(
            "--thresholds", parse_numbers("--thresholds", thresholds, float)
        ),
        hand_over_ms=hand_over_ms,
        cost_runs=cost_runs,
        dtype=dtype,
        device=device,
        draft_vocab=draft_vocab or AUTO,
        num_threads=num_threads,
        exit_adapters=exit_adapters or AUTO,
    )
    check_outputs(json_file, plot)
    require_package("torch", "worker", "shortstack exits")
    publish(measure(plan, prompts, limit), json_file, plot)


def check_outputs(json_file: Path | None, plot: Path | None) -> None:
    """Make sure that what will be written can be.

    Raises:
        UsageError: it cannot; says which and why.
    """
    if plot is not None:
        require_picture("--plot", plot)
        require_writable("--plot", plot)
    if json_file is not None:
        require_writable("--json", json_file)


def measure(plan: ExitsPlan, files: list[Path], limit: int) -> ExitsReport:
    """Read model and prompts, then do the long part, with its progress on stderr."""
    # Imported here: torch takes seconds, and wrong arguments should fail before that.
    from shortstack.exits.run import look, read_deep_config

    config = read_deep_config(plan)
    prompts = read_fitting_prompts(
        files,
        plan.model_dir,
        limit,
        max_context_len=config.max_context_len,
        vocab_size=config.vocab_size,
    )
    console = Console(stderr=True, markup=False, highlight=False)
    with Bars(console) as bars:
        return look(plan, config, prompts, bars)


def publish(report: ExitsReport, json_file: Path | None, plot: Path | None) -> None:
    """Show the report, and write what was asked for."""
    # Kinds and ids are the user's own words: brackets in them are no markup.
    show_report(report, Console(markup=False, highlight=False))
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        plot_report(report, plot)
