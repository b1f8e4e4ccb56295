"""`shortstack bench policies-live`: a policy against every static setting, on a real stack.

    shortstack bench policies-live --prompts FILE --exits 3,4 --draft-lens 2,4,8 --out live.json

Recorded texts of the same prompts and limits (--tapes) are compared count by count with what the
stack did. Times of steps tell what its processes and messages take: those of a file (--costs), or
measured here in turn with the texts (--measure-costs), as machines have moods.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shared.control.replay.step_times import StepTimes
from shared.control.replay.yardsticks import static_arms
from shared.speculation.tape import Tape
from shared.speculation.vocabulary import SamplingParams
from shared.telemetry.machine import Machine, describe_machine
from shortstack import options
from shortstack.bench.arguments import parse_numbers, publish
from shortstack.bench.control.contenders import GOODPUT_NAME
from shortstack.bench.control.costs_file import read_times
from shortstack.bench.control.live import LivePlan, LiveRun, run_live
from shortstack.bench.control.live_acceptance import judge_live
from shortstack.bench.control.live_figures import (
    added_ttft_ms,
    check_arms,
    fit_of,
    kinds_found,
    num_mismatches,
)
from shortstack.bench.control.live_report import LiveReport
from shortstack.bench.control.options import DEFAULT_EXITS, MaxPromptLen, default_prompts
from shortstack.bench.prompts import read_bench_prompts
from shortstack.checkpoint import require_model_dir
from shortstack.errors import UsageError
from shortstack.exits.options import require_package, require_writable
from shortstack.exits.prompts import lazy_encode
from shortstack.progress import StartProgress
from shortstack.running import run_command

if TYPE_CHECKING:
    from shortstack.bench.control.measure import StepMeter

# Times that each step is timed before a prompt's turn.
NUM_COST_RUNS = 1


def command(
    model: options.Model = None,
    prompts: Annotated[
        list[Path] | None, typer.Option(help="JSON lines: id, kind, prompt; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 0,
    max_prompt_len: MaxPromptLen = 0,
    exits: Annotated[str, typer.Option(help="Exits of static settings, by comma.")] = DEFAULT_EXITS,
    draft_lens: Annotated[str, typer.Option(help="Their draft lengths, by comma.")] = "1,2,3,4,6,8",
    policies: Annotated[str, typer.Option(help="Policies, by comma.")] = GOODPUT_NAME,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each text.")] = 128,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of everybody.")] = 3,
    warm_up_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that each policy decodes before anything counts.")
    ] = 2000,
    tapes: Annotated[
        Path | None, typer.Option(help="Recorded texts of these prompts, to compare counts.")
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="JSON of times, or a result of policies.")
    ] = None,
    measure_costs: Annotated[
        bool, typer.Option("--measure-costs", help="Measure times in turn with the texts.")
    ] = False,
    num_threads: options.NumThreads = None,
    out: Annotated[Path | None, typer.Option(help="Write everything into this JSON.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare policies with static settings on a real stack."""
    if costs is not None and measure_costs:
        raise UsageError("--costs and --measure-costs: take times from a file, or measure them")
    model_dir = require_model_dir(model)
    if out is not None:
        require_writable("--out", out)
    wanted = parse_numbers("--exits", exits, int)
    lengths = parse_numbers("--draft-lens", draft_lens, int)
    files, encode = prompts or default_prompts(), lazy_encode(model_dir)
    plan = LivePlan(
        model_dir=model_dir,
        prompts=read_bench_prompts(files, encode, limit, max_prompt_len),
        arms=static_arms(wanted, lengths)[1:],
        policies=[part.strip() for part in policies.split(",") if part.strip()],
        max_new_tokens=max_new_tokens,
        repeats=repeats,
        num_warm_up_tokens=warm_up_tokens,
        num_threads=num_threads,
    )
    times = read_times(costs) if costs is not None else None
    held = _tapes(tapes, max_new_tokens)
    meter = _meter(plan, wanted) if measure_costs else None
    machine = describe_machine()
    with StartProgress(Console(stderr=True, markup=False, highlight=False)) as progress:
        on_turn = progress.add_bar("decoding", plan.num_turns)
        between = partial(meter.run, NUM_COST_RUNS) if meter is not None else lambda: None
        run = run_command(run_live(plan, on_turn, progress.observe, between))
    report = make_report(plan, run, machine, meter.times() if meter is not None else times, held)
    if not as_json:
        console = Console(markup=False, highlight=False)
        for line in report.lines():
            console.print(line, soft_wrap=True)
    publish(report.to_json(), as_json, out)


def make_report(
    plan: LivePlan,
    run: LiveRun,
    machine: Machine,
    times: StepTimes | None,
    tapes: Mapping[str, Tape],
) -> LiveReport:
    """Add up what was measured.

    Args:
        plan: what was compared.
        run: what came of it.
        machine: as it was at the start.
        times: in one process; None: nobody measured.
        tapes: by prompt id, to compare counts with.
    """
    contenders = plan.contenders()
    fit = fit_of(run.samples, contenders, times)
    kinds = kinds_found(run.samples, contenders)
    checks = check_arms(run.samples, contenders, times, tapes)
    num_differing = num_mismatches(run.samples)
    ttft_ms = added_ttft_ms(run.samples, plan.policies)
    return LiveReport(
        machine=machine,
        model=plan.model_dir.name,
        num_prompts=len(plan.prompts),
        max_new_tokens=plan.max_new_tokens,
        repeats=plan.repeats,
        warm_up_tokens=run.warm_up_tokens,
        kinds=kinds,
        checks=checks,
        fit=fit,
        times=fit.on(times) if fit is not None and times is not None else times,
        num_texts=sum(map(len, run.samples.values())),
        num_mismatches=num_differing,
        acceptance=judge_live(kinds, checks, num_differing, ttft_ms),
    )


def _meter(plan: LivePlan, exits: Sequence[int]) -> "StepMeter":
    """Load the model in this process as well, to measure steps of one session.

    Raises:
        UsageError: torch is missing, nobody drafts, or the model has no such exit.
        BadModel: it cannot be served.
    """
    require_package("torch", "worker", "shortstack bench policies-live --measure-costs")
    if not plan.arms:
        raise UsageError("--measure-costs: there is no static setting whose steps to measure")
    from shared.model.config import read_config
    from shortstack.bench.control.measure import NUM_ROWS, StepMeter
    from shortstack.bench.control.record import RecordPlan, load

    wanted = tuple(sorted(set(exits)))
    num_threads = plan.num_threads or 0
    lone = RecordPlan(plan.model_dir, wanted, 2, SamplingParams(), num_threads=num_threads)
    lone.exits_of(read_config(plan.model_dir, lone.dtype))
    # Those of full drafts as they are: some rows more may be a step up.
    full = {arm.max_draft_len + 1 for arm in plan.arms}
    rows = sorted(full.union(n for n in NUM_ROWS if n < max(full)))
    return StepMeter(load(lone), wanted, (1,), rows)


def _tapes(folder: Path | None, max_new_tokens: int) -> dict[str, Tape]:
    """Return greedy recorded texts by prompt id that had the same limit; none without a folder."""
    if folder is None:
        return {}
    from shortstack.bench.control.tape_file import read_recordings

    return {
        each.header.prompt_id: each.text.tape
        for each in read_recordings(folder)
        if each.text.tape.num_tokens + 1 + each.text.tape.num_unused == max_new_tokens
        and not each.header.sampling["temperature"]
    }
