"""The long part of a look at the exits: decode, read, measure, replay. Imported late: torch."""

from collections.abc import Callable, Mapping, Sequence

import torch

from shared.model.compute_threads import ComputeThreads
from shared.model.config import ModelConfig, read_config
from shared.model.costs import measure_costs
from shared.model.layer_stack import LayerStack, Progress
from shared.speculation.cost_fit import scatter, smooth_costs
from shared.speculation.cost_model import CostTable
from shared.speculation.tape import Tape
from shared.telemetry.machine import describe_machine
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.sweep import Setting
from shortstack.errors import CommandError, UsageError
from shortstack.exits.options import ExitsPlan
from shortstack.exits.outlook import Outlook, add_grids, make_outlook, replay_grid
from shortstack.exits.reading import Reading, read_texts
from shortstack.exits.report import Conditions, ExitsReport
from shortstack.progress import Bars

NS_PER_S = 1e9
NS_PER_MS = 1e6


def read_deep_config(plan: ExitsPlan) -> ModelConfig:
    """Read the model's configuration; it must have an exit, and room for the drafts.

    Raises:
        UsageError: it has not, or there is no such device.
        BadModel: the directory cannot be served.
    """
    config = read_config(plan.model_dir, plan.dtype)
    if config.num_layers < 2:
        raise UsageError(f"{plan.model_dir} has 1 layer: an early exit needs a model of 2 or more")
    # Times are measured behind at least one position of context.
    if plan.max_draft_len + 3 > config.max_context_len:
        raise UsageError(
            f"--max-draft-len: {plan.max_draft_len} drafts do not fit the model's context of"
            f" {config.max_context_len} tokens; take a smaller one"
        )
    _check_device(plan.device)
    return config


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise UsageError(f"--device: {device} is not there; take cpu") from None


def look(
    plan: ExitsPlan, config: ModelConfig, prompts: Sequence[BenchPrompt], bars: Bars
) -> ExitsReport:
    """Do it all, with a bar for each stage.

    Raises:
        BadModel: weights, draft vocabulary or exit adapters cannot be used.
        CommandError: the model ended every text at its first token.
    """
    machine = describe_machine()
    stack = _load(plan, config, _shown_as("loading", bars))
    on_prompt = bars.add_bar("decoding, reading exits", len(prompts))
    readings = read_texts(stack, prompts, plan.max_new_tokens, on_prompt)
    tapes = tapes_by_kind(readings, bars)
    context_len = sum(each.middle for each in readings) // len(readings)
    measured = _measure(stack, plan, context_len, bars)
    costs = smooth_costs(measured)
    settings = list(plan.grid(config.num_layers).settings(config.num_layers))
    on_setting = bars.add_bar("replaying rounds", len(settings) * len(tapes))
    overall, by_kind = _make_outlooks(tapes, settings, costs, on_setting)
    return ExitsReport(
        machine,
        make_conditions(plan, stack, len(prompts), context_len),
        costs,
        scatter(measured, costs),
        overall,
        by_kind,
        sum(each.num_near_ties for each in readings),
        _plain_tok_s(readings),
    )


def _load(plan: ExitsPlan, config: ModelConfig, progress: Progress) -> LayerStack:
    stack = LayerStack(
        config,
        plan.device,
        progress=progress,
        draft_vocab=config.find_draft_vocab(plan.draft_vocab),
        exit_adapters=config.find_exit_adapters(plan.exit_adapters),
    )
    stack.threads = ComputeThreads.for_model(config, plan.num_threads)
    return stack


def make_conditions(
    plan: ExitsPlan, stack: LayerStack, num_prompts: int, context_len: int
) -> Conditions:
    """Return what the report says of the plan."""
    subset = stack.draft_subset
    return Conditions(
        model_dir=plan.model_dir,
        num_layers=stack.config.num_layers,
        dtype=plan.dtype,
        device=plan.device,
        num_draftable=stack.config.vocab_size if subset is None else len(subset),
        num_threads=plan.num_threads,
        num_prompts=num_prompts,
        max_new_tokens=plan.max_new_tokens,
        max_draft_len=plan.max_draft_len,
        stop_thresholds=plan.stop_thresholds,
        hand_over_ms=plan.hand_over_ms,
        context_len=context_len,
    )


def tapes_by_kind(readings: Sequence[Reading], bars: Bars) -> dict[str, list[Tape]]:
    """Group tapes by kind of text; a kind without a single token is told and left out.

    Raises:
        CommandError: none has any.
    """
    tapes: dict[str, list[Tape]] = {}
    for each in readings:
        tapes.setdefault(each.kind, []).append(each.tape)
    empty = [kind for kind, own in tapes.items() if not any(tape.num_tokens for tape in own)]
    if len(empty) == len(tapes):
        raise CommandError("the model ended every text at its first token: try other prompts")
    for kind in empty:
        bars.tell(f"{kind}: left out, the model ended every text at its first token")
        del tapes[kind]
    return tapes


def _shown_as(label: str, bars: Bars) -> Progress:
    return lambda _, done, total: bars.show(label, done, total)


def _measure(stack: LayerStack, plan: ExitsPlan, context_len: int, bars: Bars) -> CostTable:
    exits = range(1, stack.config.num_layers)
    measured = measure_costs(
        stack,
        exits,
        plan.max_draft_len,
        context_len,
        plan.cost_runs,
        _shown_as("measuring costs", bars),
    )
    return measured.to_table(plan.hand_over_ms * NS_PER_MS)


def _make_outlooks(
    tapes: Mapping[str, Sequence[Tape]],
    settings: Sequence[Setting],
    costs: CostTable,
    on_setting: Callable[[], None],
) -> tuple[Outlook, dict[str, Outlook]]:
    """Replay every setting over every kind; return the outlook on all texts and by kind."""
    grids = {kind: replay_grid(own, settings, on_setting) for kind, own in tapes.items()}
    by_kind = {kind: make_outlook(own, grids[kind], costs) for kind, own in tapes.items()}
    all_tapes = [tape for own in tapes.values() for tape in own]
    return make_outlook(all_tapes, add_grids(list(grids.values())), costs), by_kind


def _plain_tok_s(readings: Sequence[Reading]) -> float:
    """Return the speed of plain decoding, first token to last, all texts together."""
    num_tokens = sum(each.tape.num_tokens for each in readings)
    return num_tokens * NS_PER_S / sum(each.decode_ns for each in readings)
