"""`shortstack bench decode`: how fast one session decodes, every way there is, on the same weights.

    shortstack bench decode --model DIR --prompts FILE.jsonl --max-new-tokens 128 --exit-layer 2
    shortstack bench decode --model DIR --prompts FILE.jsonl --sweep

The headline is decode speed as a client of the gateway sees it, first tokens to last. Exit status 1
when two ways emitted different tokens that are no near tie. Loads no torch in its own process.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from shared.speculation.draft_vocab import AUTO
from shortstack import options
from shortstack.bench.decode_run import measure_decoding
from shortstack.bench.decode_view import plot_report, show_report
from shortstack.bench.open_bench import DecodePlan, Watcher
from shortstack.bench.prompts import read_bench_prompts, tokenizer_of
from shortstack.bench.samples import Peer
from shortstack.bench.sweep import Grid, SweepReport, sweep
from shortstack.bench.sweep_view import show_sweep
from shortstack.bench.torch_peer import ModelChoice
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.running import run_command

ValueT = TypeVar("ValueT", int, float)
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


def parse_numbers(option: str, text: str, number: Callable[[str], ValueT]) -> tuple[ValueT, ...]:
    """Read numbers by comma.

    Raises:
        UsageError: one of them is none.
    """
    try:
        return tuple(number(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def run_and_finish(plan: DecodePlan, as_json: bool, out: Path | None, plot: Path | None) -> None:
    """Measure, report, and end with status 1 on a mismatch."""
    num_turns = len(plan.prompts) * plan.repeats * len(plan.peers)
    with DecodeProgress(num_turns) as progress:
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
    with DecodeProgress(0) as progress:
        return run_command(sweep(plan, grid, progress.watcher()))


def finish_sweep(report: SweepReport, as_json: bool, out: Path | None) -> None:
    """Report a sweep."""
    publish(report.to_json(), as_json, out)
    if not as_json:
        show_sweep(report, Console())


def publish(values: dict[str, Any], as_json: bool, out: Path | None) -> None:
    """Print JSON and write it, where wished."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(values))


class DecodeProgress:
    """One line on a terminal's stderr; drawn between turns, so that it disturbs none of them."""

    def __init__(self, num_turns: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description} {task.fields[turns]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task = TaskID(0)
        self._num_turns = num_turns
        self._num_done = 0
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> "DecodeProgress":
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None, turns="")
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def watcher(self) -> Watcher:
        """Return what the measurement tells."""
        return Watcher(self._on_stage, self._on_turn, self._on_event)

    def _on_event(self, name: str, event: dict[str, Any]) -> None:
        """Pass each warning of the stack on, once: a lost draft worker explains a slow pipeline."""
        told = (name, str(event.get("event")))
        if event.get("level") in ("WARNING", "ERROR", "CRITICAL") and told not in self._told:
            self._told.add(told)
            line = f"{name}: {json.dumps(event)}"
            self._progress.console.print(line, highlight=False, soft_wrap=True)

    def _on_stage(self, stage: str) -> None:
        self._progress.update(self._task, description=stage, turns="")
        self._progress.refresh()

    def _on_turn(self) -> None:
        self._num_done += 1
        self._progress.update(self._task, turns=f"{self._num_done}/{self._num_turns}")
        self._progress.refresh()
