"""`shortstack bench decode`: how fast one session decodes, every way there is, on the same weights.

    shortstack bench decode --model DIR --prompts FILE.jsonl --max-new-tokens 128 --exit-layer 2
    shortstack bench decode --model DIR --prompts FILE.jsonl --sweep

The headline is decode speed as a client of the gateway sees it, first tokens to last. Exit status 1
when two ways emitted different tokens that are no near tie. Loads no torch in its own process.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared.speculation.draft_vocab import AUTO
from shortstack import options
from shortstack.bench.arguments import parse_numbers, publish
from shortstack.bench.decode_run import measure_decoding
from shortstack.bench.decode_view import plot_report, show_report
from shortstack.bench.open_bench import DecodePlan
from shortstack.bench.prompts import read_bench_prompts, tokenizer_of
from shortstack.bench.samples import Peer
from shortstack.bench.sweep import Grid, SweepReport, sweep
from shortstack.bench.sweep_view import show_sweep
from shortstack.bench.torch_peer import ModelChoice
from shortstack.bench.turn_progress import TurnProgress
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.running import run_command

DEFAULT_PEERS = "plain,fused,hf,hf-early-exit"
ALWAYS = frozenset({Peer.PIPELINE, Peer.PLAIN_GATEWAY})


def command(
    prompts: Annotated[list[Path], typer.Option(help="JSON lines: id, kind, prompt; repeatable.")],
    model: options.Model = None,
    max_new_tokens: options.MaxNewTokens = 128,
    exit_layer: options.ExitLayer = None,
    draft_len: Annotated[int, typer.Option(min=1, help="Most drafts per round.")] = 4,
    stop_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Drafting stops below this confidence.")
    ] = 0.0,
    peers: Annotated[str, typer.Option(help="Also measured, by comma.")] = DEFAULT_PEERS,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Times that all is measured.")] = 3,
    num_threads: options.NumThreads = 0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or a CUDA device such as cuda:0.")] = "cpu",
    draft_vocab: options.DraftVocab = AUTO,
    exit_adapters: options.ExitAdapters = AUTO,
    ignore_eos: Annotated[bool, typer.Option(help="Go on behind ends of sequence.")] = False,
    is_sweep: Annotated[
        bool, typer.Option("--sweep", help="Find the best static setting.")
    ] = False,
    exits: Annotated[str, typer.Option(help="Sweep: exit layers, by comma.")] = "",
    draft_lens: Annotated[str, typer.Option(help="Sweep: draft lengths.")] = "2,3,4,6,8",
    thresholds: Annotated[str, typer.Option(help="Sweep: stop thresholds.")] = "0,0.3,0.6",
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw bars into this PNG.")] = None,
) -> None:
    """Measure how fast one session decodes, with and without speculation."""
    model_dir = require_model_dir(model)
    plan = DecodePlan(
        choice=ModelChoice(
            model_dir, dtype, device, num_threads or 0, draft_vocab or AUTO, exit_adapters or AUTO
        ),
        prompts=read_bench_prompts(prompts, tokenizer_of(model_dir), limit),
        peers=parse_peers(peers),
        max_new_tokens=max_new_tokens,
        repeats=repeats,
        exit_layer=exit_layer or 0,
        draft_len=draft_len,
        stop_threshold=stop_threshold,
        ignore_eos=ignore_eos,
    )
    if is_sweep:
        grid = Grid(
            parse_numbers("--exits", exits, int),
            parse_numbers("--draft-lens", draft_lens, int),
            parse_numbers("--thresholds", thresholds, float),
        )
        finish_sweep(run_sweep(plan, grid), as_json, out)
    else:
        run_and_finish(plan, as_json, out, plot)


def parse_peers(text: str) -> frozenset[Peer]:
    """Read names of peers by comma; those that cost no process of their own are always in.

    Raises:
        UsageError: a name is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in {peer.value for peer in Peer}]
    if unknown:
        known = ", ".join(peer.value for peer in Peer)
        raise UsageError(f"--peers: unknown {', '.join(unknown)}; there are {known}")
    return ALWAYS | {Peer(name) for name in names}


def run_and_finish(plan: DecodePlan, as_json: bool, out: Path | None, plot: Path | None) -> None:
    """Measure, report, and end with status 1 on a mismatch."""
    num_turns = len(plan.prompts) * plan.repeats * len(plan.peers)
    with TurnProgress(num_turns) as progress:
        report = run_command(measure_decoding(plan, progress.watcher()))
    publish(report.to_json(), as_json, out)
    if plot is not None:
        plot_report(report, plot)
    if not as_json:
        show_report(report, Console())
    for peer, prompt_id, difference in report.differences:
        print(f"{prompt_id}: {peer.value} differs at {difference}", file=sys.stderr)
    if report.num_mismatches:
        sys.exit(1)


def run_sweep(plan: DecodePlan, grid: Grid) -> SweepReport:
    """Sweep with a display of its progress."""
    with TurnProgress(0) as progress:
        return run_command(sweep(plan, grid, progress.watcher()))


def finish_sweep(report: SweepReport, as_json: bool, out: Path | None) -> None:
    """Report a sweep."""
    publish(report.to_json(), as_json, out)
    if not as_json:
        show_sweep(report, Console())
