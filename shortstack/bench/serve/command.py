"""`shortstack bench serve`: how the server behaves under load, as a client of the gateway sees it.

    shortstack bench serve --model DIR --prompts FILE.jsonl --concurrency 1,4,16 --rates 0.5,1
    shortstack bench serve --model DIR --prompts FILE.jsonl --scenario soak --duration 300

Exit status 1 when a sender emitted other tokens than plain decoding (near ties aside), when a
request was lost, or when a scenario's own claims do not hold. Loads no torch in its own process.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.speculation.draft_vocab import AUTO
from shortstack import options
from shortstack.bench.arguments import parse_numbers, publish
from shortstack.bench.prompts import read_bench_prompts, tokenizer_of
from shortstack.bench.serve.modes import parse_modes
from shortstack.bench.serve.plan import PeerName, ServePlan
from shortstack.bench.serve.scenarios import SCENARIOS, ScenarioName
from shortstack.bench.serve.workload import parse_length_mix
from shortstack.bench.torch_peer import ModelChoice
from shortstack.bench.turn_progress import TurnProgress
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.plan import PREFIX, CellKind
from shortstack.running import run_command

TABLE_WIDTH = 180
DEFAULT_CONCURRENCY = "1,2,4,8,16,32"


def command(
    prompts: Annotated[list[Path], typer.Option(help="JSON lines: id, kind, prompt; repeatable.")],
    model: options.Model = None,
    scenario: Annotated[ScenarioName, typer.Option(help="What to measure.")] = ScenarioName.SWEEP,
    concurrency: Annotated[
        str | None, typer.Option(help="Clients of closed loops, by comma.")
    ] = None,
    rates: Annotated[str, typer.Option(help="Requests per second of open loops.")] = "",
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests of each load; default: 4 a client.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=1, help="Seconds of each load, instead.")
    ] = None,
    max_new_tokens: Annotated[
        str, typer.Option(help="Lengths drawn from, such as 64 or 32,64,128 or 32-128.")
    ] = "32,64,128",
    modes: Annotated[str, typer.Option(help="auto, off, static:E=2:d=4, by comma.")] = "auto,off",
    peers: Annotated[str, typer.Option(help="hf-continuous, hf, by comma.")] = "",
    cell_kind: Annotated[CellKind, typer.Option(help="The cell that serves.")] = CellKind.SPLIT,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Times that all is measured.")] = 3,
    seed: Annotated[int, typer.Option(help="Of lengths, order and arrivals.")] = 0,
    num_threads: options.NumThreads = 0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or a CUDA device such as cuda:0.")] = "cpu",
    draft_vocab: options.DraftVocab = AUTO,
    exit_adapters: options.ExitAdapters = AUTO,
    ignore_eos: Annotated[bool, typer.Option(help="Go on behind ends of sequence.")] = False,
    is_tuned: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Try out how peers run fastest.")
    ] = True,
    share_prefixes: Annotated[
        bool | None,
        typer.Option(help="Whether servers may keep prefixes; default: all but the sweep."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A variable of the stack, NAME=VALUE; repeatable."),
    ] = None,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the sweep into this PNG.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Also write a JSON line per request of the sweep.")
    ] = None,
) -> None:
    """Measure how the server behaves under load."""
    model_dir = require_model_dir(model)
    plan = ServePlan(
        choice=ModelChoice(
            model_dir, dtype, device, num_threads or 0, draft_vocab or AUTO, exit_adapters or AUTO
        ),
        prompts=read_bench_prompts(prompts, tokenizer_of(model_dir), limit),
        modes=parse_modes(modes),
        peers=parse_serve_peers(peers),
        concurrency=parse_concurrency(default_concurrency(scenario, concurrency, rates)),
        rates=parse_rates(rates),
        num_requests=requests,
        duration_s=duration,
        mix=parse_length_mix(max_new_tokens),
        repeats=repeats,
        seed=seed,
        cell_kind=cell_kind,
        ignore_eos=ignore_eos,
        is_tuned=is_tuned,
        shares_prefixes=default_sharing(scenario, share_prefixes),
        environ=parse_environ(setting or []),
    )
    run_and_finish(scenario, plan, as_json, out, plot, trace)


def parse_serve_peers(text: str) -> tuple[PeerName, ...]:
    """Read names of peers by comma.

    Raises:
        UsageError: a name is unknown.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    known = [peer.value for peer in PeerName]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--peers: unknown {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(map(PeerName, names))


def default_concurrency(scenario: ScenarioName, wished: str | None, rates: str) -> str:
    """Return what was wished for; without a wish a sweep that has no rates takes the default."""
    if wished is not None:
        return wished
    is_closed = scenario is ScenarioName.SWEEP and not rates.strip()
    return DEFAULT_CONCURRENCY if is_closed else ""


def default_sharing(scenario: ScenarioName, wished: bool | None) -> bool:
    """Return what was wished for; a sweep sends few prompts often, so it shares none of them."""
    return scenario is not ScenarioName.SWEEP if wished is None else wished


def parse_concurrency(text: str) -> tuple[int, ...]:
    """Read numbers of clients by comma.

    Raises:
        UsageError: one is no number or below 1.
    """
    numbers = parse_numbers("--concurrency", text, int)
    if any(number < 1 for number in numbers):
        raise UsageError("--concurrency: a loop has at least 1 client")
    return tuple(dict.fromkeys(numbers))


def parse_rates(text: str) -> tuple[float, ...]:
    """Read requests per second.

    Raises:
        UsageError: one is no number or not above 0.
    """
    numbers = parse_numbers("--rates", text, float)
    if not all(number > 0 for number in numbers):
        raise UsageError("--rates: requests per second must be above 0")
    return tuple(dict.fromkeys(numbers))


def parse_environ(settings: Iterable[str]) -> dict[str, str]:
    """Read variables of the stack; the prefix may be left out.

    Raises:
        UsageError: one is not NAME=VALUE.
    """
    environ = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise UsageError(f"--set: {setting} is not NAME=VALUE")
        environ[name if name.startswith(PREFIX) else PREFIX + name] = value
    return environ


def run_and_finish(
    name: ScenarioName,
    plan: ServePlan,
    as_json: bool,
    out: Path | None,
    plot: Path | None,
    trace: Path | None,
) -> None:
    """Measure, report, and end with status 1 where something failed."""
    scenario = SCENARIOS[name]
    if (plot is not None and scenario.plot is None) or (
        trace is not None and not scenario.has_trace
    ):
        raise UsageError(f"--plot and --trace are of the sweep; {name.value} has neither")
    with TurnProgress(0, tells_stages=True) as progress:
        report = run_command(scenario.measure(plan, progress.watcher()))
    publish(report.to_json(), as_json, out)
    if plot is not None and scenario.plot is not None:
        scenario.plot(report, plot)
    if trace is not None:
        write_trace(report.trace(), trace)
    if not as_json:
        scenario.show(report, wide_console())
    failures = report.failures()
    for line in failures:
        print(line, file=sys.stderr)
    if failures:
        sys.exit(1)


def wide_console() -> Console:
    """Return a console on which the tables fit: a narrow terminal breaks lines, nothing is cut."""
    return Console(width=max(Console().width, TABLE_WIDTH))


def write_trace(records: Iterable[dict[str, Any]], file: Path) -> None:
    """Write JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record) + "\n" for record in records)
    file.write_text("".join(lines), encoding="utf-8")
