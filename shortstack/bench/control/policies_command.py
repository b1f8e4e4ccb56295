"""`shortstack bench policies`: replay control policies over recorded texts, at measured costs.

    shortstack bench policies --tapes DIR --plot policies.png --out policies.json

Without recorded texts, some are recorded first. Costs of steps are measured in this process, or
taken from a file. Nothing is served: a replay takes virtual time, and gives the same every time.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shared.control.evidence.sampling_class import sampling_class_of
from shared.speculation.vocabulary import SamplingParams
from shared.telemetry.machine import describe_machine
from shortstack import options
from shortstack.bench.arguments import parse_numbers, publish
from shortstack.bench.control.contenders import NAMES, Setup
from shortstack.bench.control.evaluate import Plan, evaluate
from shortstack.bench.control.fit import read_fit
from shortstack.bench.control.options import DEFAULT_EXITS, default_prompts, parse_names
from shortstack.bench.control.replay_plot import plot_replay
from shortstack.bench.control.replay_report import ReplayConditions, ReplayReport
from shortstack.bench.control.replay_view import show_replay
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.exits.options import require_package, require_picture, require_writable
from shortstack.progress import Bars

if TYPE_CHECKING:
    from shared.control.replay.step_times import StepTimes
    from shortstack.bench.control.tape_file import Recording


def command(
    tapes: Annotated[
        Path | None, typer.Option(help="Folder of recorded texts (record-tapes).")
    ] = None,
    model: options.Model = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option(help="Without --tapes: texts to record, JSON lines; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each new text.")] = 256,
    exits: Annotated[str, typer.Option(help="Exits to choose from, by comma.")] = DEFAULT_EXITS,
    policies: Annotated[str, typer.Option(help="Contenders by comma.")] = ",".join(NAMES),
    session_len: Annotated[
        int, typer.Option(min=16, help="Texts of a kind are joined to so many tokens.")
    ] = 900,
    costs: Annotated[
        Path | None, typer.Option(help="JSON of times, or an earlier result; else measured.")
    ] = None,
    served: Annotated[
        Path | None,
        typer.Option(help="Result of policies-live: what steps take between processes."),
    ] = None,
    cost_runs: Annotated[int, typer.Option(min=1, help="Times that each part is timed.")] = 15,
    num_threads: Annotated[
        int, typer.Option(min=0, help="Compute threads; 0: as workers have.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Write everything into this JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into this PNG.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Replay control policies over recorded texts."""
    names = parse_names(policies)
    wanted = tuple(sorted(set(parse_numbers("--exits", exits, int))))
    if plot is not None:
        require_picture("--plot", plot)
    if out is not None:
        require_writable("--out", out)
    fit = read_fit(served) if served is not None else None
    require_package("torch", "worker", "shortstack bench policies")
    machine = describe_machine()
    with Bars(Console(stderr=True, markup=False, highlight=False)) as bars:
        recordings = _recordings(tapes, model, prompts, limit, max_new_tokens, num_threads)
        check_exits(wanted, recordings)
        times = _times(costs, model, wanted, cost_runs, num_threads, bars)
        setup = Setup(fit.on(times) if fit else times, wanted, _class_of(recordings))
        plan = Plan(setup, names, session_len)
        found = evaluate(plan, [each.text for each in recordings], bars.tell)
    header = recordings[0].header
    conditions = ReplayConditions(
        model=header.model,
        fingerprint=header.fingerprint,
        sampling_class=setup.sampling_class,
        exits=wanted,
        num_texts=len(recordings),
        num_tokens=sum(each.text.tape.num_tokens for each in recordings),
        session_len=session_len,
        num_near_ties=sum(each.header.num_near_ties for each in recordings),
    )
    report = ReplayReport(machine, conditions, found)
    if not as_json:
        show_replay(report, Console(markup=False, highlight=False))
    publish(report.to_json(), as_json, out)
    if plot is not None:
        plot_replay(report, plot)


def _recordings(
    tapes: Path | None,
    model: Path | None,
    prompts: list[Path] | None,
    limit: int,
    max_new_tokens: int,
    num_threads: int,
) -> "list[Recording]":
    """Read what was recorded, or record it now."""
    from shortstack.bench.control.record import RecordPlan
    from shortstack.bench.control.record_tapes import record_into
    from shortstack.bench.control.tape_file import read_recordings

    if tapes is not None:
        if prompts:
            raise UsageError("--tapes and --prompts: name recorded texts or prompts, not both")
        return read_recordings(tapes)
    plan = RecordPlan(
        require_model_dir(model), (), max_new_tokens, SamplingParams(), num_threads=num_threads
    )
    with tempfile.TemporaryDirectory() as folder:
        record_into(Path(folder), plan, prompts or default_prompts(), limit)
        return read_recordings(Path(folder))


def check_exits(exits: tuple[int, ...], recordings: "list[Recording]") -> None:
    """Make sure that the exits were recorded.

    Raises:
        UsageError: one was not.
    """
    recorded = recordings[0].header.exits
    if missing := sorted(set(exits) - set(recorded)):
        held = ", ".join(map(str, recorded))
        raise UsageError(f"--exits: {missing[0]} was not recorded; the texts hold {held}")


def _class_of(recordings: "list[Recording]") -> str:
    """Return the sampling class of the texts.

    Raises:
        UsageError: they are of several.
    """
    classes = {
        sampling_class_of(SamplingParams(temperature=each.header.sampling["temperature"]))
        for each in recordings
    }
    if len(classes) > 1:
        raise UsageError(
            f"--tapes: texts of several sampling classes: {', '.join(sorted(classes))}"
        )
    return classes.pop()


def _times(
    costs: Path | None,
    model: Path | None,
    exits: tuple[int, ...],
    num_runs: int,
    num_threads: int,
    bars: Bars,
) -> "StepTimes":
    """Read times, or measure them.

    Raises:
        UsageError: the file holds none of these exits.
    """
    if costs is not None:
        from shortstack.bench.control.costs_file import read_times

        times = read_times(costs)
        if missing := sorted(set(exits) - set(times.exits)):
            raise UsageError(f"--costs: {costs} has no times of exit {missing[0]}")
        return times
    from shortstack.bench.control.measure import measure_step_times
    from shortstack.bench.control.record import RecordPlan, load

    plan = RecordPlan(require_model_dir(model), exits, 2, SamplingParams(), num_threads=num_threads)
    stack = load(plan, lambda _, done, total: bars.show("loading", done, total))
    shown = "measuring costs"
    return measure_step_times(
        stack, exits, num_runs, lambda _, done, total: bars.show(shown, done, total)
    )
