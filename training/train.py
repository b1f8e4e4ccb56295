"""Train a small Llama with LayerSkip, from texts to a model directory.

One file, long because it reads from top to bottom: 1 arguments, 2 settings, 3 checkpoints, 4 one
optimiser step, 5 reports, 6 the run.
Knows the recipe through `layerskip.backward` and the texts through `data.prepare` only.

    python -m training.train --data DIR --out DIR [--steps 3600] [--resume]

The run writes OUT/log.jsonl, OUT/checkpoint.pt and the model directory OUT/model. SIGTERM or
Ctrl-C end it after the step, with a checkpoint. It can be resumed, also with another --steps, which
moves the final decay of the learning rate; all other settings must stay what they were. On a busy
machine set OMP_WAIT_POLICY=PASSIVE: threads that spin keep the others from their work.
"""

import argparse
import json
import math
import os
import pickle
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from training.data import KINDS, BatchPlan, TokenSets, held_out_windows, prepare
from training.errors import TrainingError, run_command
from training.evaluate import score_exits
from training.export import DTYPES, rounding_errors, save_model
from training.layerskip import backward
from training.model import Llama, ModelShape
from training.recipe import CURRICULA, SCALES, Draws, Recipe, last_layer_shares, learning_rate

# 1. Arguments ------------------------------------------------------------------------------------


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_run_arguments(parser.add_argument_group("run"))
    _add_model_arguments(parser.add_argument_group("model and texts"))
    _add_recipe_arguments(parser.add_argument_group("recipe"))
    _add_optimiser_arguments(parser.add_argument_group("optimiser"))
    return parser.parse_args(argv)


def _add_run_arguments(group: Any) -> None:
    group.add_argument("--data", type=Path, required=True, help="directory of the texts")
    group.add_argument("--out", type=Path, required=True, help="directory of the run")
    group.add_argument("--steps", type=int, default=3600, help="optimiser steps, decay included")
    group.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    group.add_argument(
        "--init-from", type=Path, help="checkpoint.pt of an earlier run whose weights to start from"
    )
    group.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    group.add_argument("--checkpoint-every", type=int, default=200, help="steps")
    group.add_argument("--export-every", type=int, default=600, help="steps; 0: at the end only")
    group.add_argument("--export-dir", type=Path, help="model directory; default OUT/model")
    group.add_argument("--evaluate-every", type=int, default=200, help="steps; 0: never")


def _add_model_arguments(group: Any) -> None:
    shape = ModelShape()
    group.add_argument("--vocab-size", type=int, default=shape.vocab_size)
    group.add_argument("--layers", type=int, default=shape.num_layers)
    group.add_argument("--hidden-size", type=int, default=shape.hidden_size)
    group.add_argument("--ffn-size", type=int, default=shape.ffn_size)
    group.add_argument("--heads", type=int, default=shape.num_heads)
    group.add_argument("--kv-heads", type=int, default=shape.num_kv_heads)
    group.add_argument("--head-size", type=int, default=shape.head_size)
    group.add_argument("--store-dtype", choices=sorted(DTYPES), default="float16")
    group.add_argument("--max-mb", type=float, default=14.0, help="text per kind, megabytes")


def _add_recipe_arguments(group: Any) -> None:
    recipe = Recipe(num_layers=2)
    group.add_argument("--p-max", type=float, default=recipe.p_max)
    group.add_argument("--e-scale", type=float, default=recipe.e_scale)
    group.add_argument("--curriculum", choices=CURRICULA, default=recipe.curriculum)
    group.add_argument("--rotation", type=int, default=recipe.rotation)
    group.add_argument("--dropout-scale", choices=SCALES, default=recipe.dropout_scale)


def _add_optimiser_arguments(group: Any) -> None:
    group.add_argument("--seed", type=int, default=1)
    group.add_argument("--step-tokens", type=int, default=2048, help="tokens per micro-batch")
    group.add_argument("--micro-batches", type=int, default=1, help="micro-batches per step")
    group.add_argument("--learning-rate", type=float, default=1.5e-3, help="its peak")
    group.add_argument("--warmup", type=int, default=150, help="steps")
    group.add_argument("--decay", type=float, default=0.2, help="last part of the run, in [0, 1]")
    group.add_argument("--weight-decay", type=float, default=0.1)
    group.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient")


# 2. Settings -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """All that decides the numbers of a run; a resumed run may change num_steps alone."""

    num_steps: int
    recipe: Recipe
    plan: BatchPlan
    shape: ModelShape = field(default_factory=ModelShape)
    num_micro_batches: int = 1
    peak_learning_rate: float = 1.5e-3
    num_warmup: int = 150
    decay: float = 0.2
    weight_decay: float = 0.1
    max_norm: float = 1.0

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step."""
        return learning_rate(
            step, self.num_steps, self.peak_learning_rate, self.num_warmup, self.decay
        )


def settings_of(args: argparse.Namespace) -> Settings:
    """Turn the arguments into settings.

    Raises:
        TrainingError: flags have values that cannot work; all of them are named.
    """
    faults = [f"{flag} {need}" for flag, need, holds in _checks(args) if not holds]
    try:
        recipe = _recipe_of(args)
    except ValueError as error:
        faults.append(str(error))
    if faults:
        raise TrainingError("; ".join(faults))
    return Settings(
        num_steps=args.steps,
        recipe=recipe,
        plan=BatchPlan(seed=args.seed, step_tokens=args.step_tokens),
        shape=_shape_of(args),
        num_micro_batches=args.micro_batches,
        peak_learning_rate=args.learning_rate,
        num_warmup=args.warmup,
        decay=args.decay,
        weight_decay=args.weight_decay,
        max_norm=args.clip,
    )


def _recipe_of(args: argparse.Namespace) -> Recipe:
    return Recipe(
        num_layers=args.layers,
        p_max=args.p_max,
        e_scale=args.e_scale,
        curriculum=args.curriculum,
        rotation=args.rotation,
        dropout_scale=args.dropout_scale,
    )


def _shape_of(args: argparse.Namespace) -> ModelShape:
    return ModelShape(
        vocab_size=args.vocab_size,
        num_layers=args.layers,
        hidden_size=args.hidden_size,
        ffn_size=args.ffn_size,
        num_heads=args.heads,
        num_kv_heads=args.kv_heads,
        head_size=args.head_size,
    )


def _checks(args: argparse.Namespace) -> Iterator[tuple[str, str, bool]]:
    longest = BatchPlan(seed=0, step_tokens=0).long_len
    yield "--steps", "must be at least 1", args.steps >= 1
    yield "--micro-batches", "must be at least 1", args.micro_batches >= 1
    yield (
        "--step-tokens",
        f"must be a multiple of {longest}",
        (args.step_tokens >= longest and args.step_tokens % longest == 0),
    )
    yield "--vocab-size", "must lie in [257, 65536]", 257 <= args.vocab_size <= 65536
    yield (
        "--kv-heads",
        "must divide --heads",
        (args.kv_heads >= 1 and args.heads >= 1 and args.heads % args.kv_heads == 0),
    )
    yield "--head-size", "must be even", args.head_size >= 2 and args.head_size % 2 == 0
    yield "--learning-rate", "must be positive", args.learning_rate > 0
    yield "--decay", "must lie in [0, 1]", 0 <= args.decay <= 1
    yield "--checkpoint-every", "must be at least 1", args.checkpoint_every >= 1
    yield "--max-mb", "must be positive", args.max_mb > 0


# 3. Checkpoints ----------------------------------------------------------------------------------


@dataclass
class Run:
    """What changes while training: weights, optimiser, steps done, tokens and seconds spent."""

    model: Llama
    optimiser: torch.optim.AdamW
    step: int = 0
    num_tokens: int = 0
    elapsed_s: float = 0.0


def new_run(settings: Settings) -> Run:
    """A run at step 0; matrices decay, norms do not."""
    model = Llama(settings.shape, seed=settings.plan.seed)
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if weight.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return Run(model, torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8, fused=True))


def save_checkpoint(run: Run, settings: Settings, path: Path) -> None:
    """Write all that a resumed run needs, atomically."""
    state = {
        "settings": json.dumps(asdict(settings)),
        "model": run.model.state_dict(),
        "optimiser": run.optimiser.state_dict(),
        "step": run.step,
        "num_tokens": run.num_tokens,
        "elapsed_s": run.elapsed_s,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path, settings: Settings) -> Run:
    """Read the state of a run.

    Raises:
        TrainingError: no checkpoint, a damaged one, or one of other settings than num_steps.
    """
    if not path.exists():
        raise TrainingError(f"nothing to resume: {path} does not exist; start without --resume")
    try:
        state = torch.load(path, weights_only=True)
        stored = json.loads(state["settings"])
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).split(". ")[0]
        raise TrainingError(f"{path} is damaged: {reason}; remove it and start anew") from error
    _refuse_changes(stored, asdict(settings))
    run = new_run(settings)
    run.model.load_state_dict(state["model"])
    run.optimiser.load_state_dict(state["optimiser"])
    return replace(run, **{name: state[name] for name in ("step", "num_tokens", "elapsed_s")})


def start_from(path: Path, settings: Settings) -> Run:
    """A run at step 0 with the weights of an earlier run: continual pretraining, own schedule.

    The tokenizer must be the earlier run's too: copy its `tokens` folder along.

    Raises:
        TrainingError: no checkpoint, a damaged one, or a model of another shape.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist; name the checkpoint.pt of an earlier run")
    try:
        state = torch.load(path, weights_only=True)
        stored = json.loads(state["settings"])
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path} is damaged: {str(error).split('. ')[0]}") from error
    if stored["shape"] != asdict(settings.shape):
        raise TrainingError(
            f"{path} holds a model of shape {stored['shape']}, other than asked for"
        )
    run = new_run(settings)
    run.model.load_state_dict(state["model"])
    return replace(run, num_tokens=state["num_tokens"])


def _refuse_changes(stored: dict[str, Any], current: dict[str, Any]) -> None:
    changed = [name for name in current if stored.get(name) != current[name]]
    if set(changed) - {"num_steps"}:
        texts = [f"{name}: {stored.get(name)} before, {current[name]} now" for name in changed]
        raise TrainingError(f"a resumed run may change --steps only; {'; '.join(texts)}")


# 4. One optimiser step ---------------------------------------------------------------------------


def train_step(run: Run, settings: Settings, tokens: TokenSets) -> dict[int, float]:
    """Advance the run by one optimiser step; return the cross-entropy of the exits in its loss.

    Raises:
        TrainingError: a loss is not a number.
    """
    losses: dict[int, float] = {}
    for micro_batch in range(settings.num_micro_batches):
        batch = settings.plan.batch(tokens.train, run.step, micro_batch)
        draws = Draws(settings.plan.seed, run.step, micro_batch)
        found = backward(
            run.model,
            batch,
            settings.recipe,
            draws,
            settings.num_steps,
            settings.num_micro_batches,
        )
        for layer, loss in found.items():
            losses[layer] = losses.get(layer, 0.0) + loss / settings.num_micro_batches
        run.num_tokens += batch.tokens_BT.numel()
    if not all(math.isfinite(loss) for loss in losses.values()):
        raise TrainingError(f"loss {losses} at step {run.step}; lower --learning-rate, resume")
    _update(run, settings)
    return losses


def _update(run: Run, settings: Settings) -> None:
    """Clip, step, clear."""
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), settings.max_norm)
    for group in run.optimiser.param_groups:
        group["lr"] = settings.learning_rate(run.step)
    run.optimiser.step()
    run.optimiser.zero_grad()
    run.step += 1


# 5. Reports --------------------------------------------------------------------------------------


class Log:
    """One JSON object per line, to a file and to the screen."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **values: Any) -> None:
        """Append a line."""
        line = json.dumps(values)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def report_start(log: Log, run: Run, settings: Settings, tokens: TokenSets) -> None:
    """Say what is trained on what, and how much of the loss lies on the last layer."""
    mean, least, most = last_layer_shares(settings.recipe, settings.num_steps)
    log.write(
        event="start",
        step=run.step,
        settings=asdict(settings),
        num_parameters=sum(weight.numel() for weight in run.model.parameters()),
        train_tokens={kind: len(tokens.train[kind].tokens) for kind in KINDS},
        last_layer_loss_share={"mean": mean, "min": least, "max": most},
    )


def report_step(log: Log, run: Run, losses: dict[int, float], rate: float, took_s: float) -> None:
    """Log the losses of one step by exit (exit E is the output of layer E - 1)."""
    by_exit = {str(layer + 1): round(loss, 4) for layer, loss in losses.items()}
    log.write(
        event="step",
        step=run.step,
        loss_by_exit=by_exit,
        learning_rate=round(rate, 7),
        num_tokens=run.num_tokens,
        step_s=round(took_s, 2),
        elapsed_s=round(run.elapsed_s, 1),
    )


def report_evaluation(log: Log, run: Run, tokens: TokenSets) -> None:
    """Log cross-entropy and agreement of all exits on a little held-out text."""
    for kind in KINDS:
        scores = score_exits(run.model, held_out_windows(tokens.valid[kind], 8, 256))
        log.write(
            event="evaluation",
            step=run.step,
            kind=kind,
            cross_entropy=[round(value, 3) for value in scores.cross_entropy],
            agreement=[round(value, 3) for value in scores.agreement],
        )


def report_end(log: Log, run: Run) -> None:
    """Log how far the run has come, and what storing its weights loses."""
    log.write(
        event="end",
        step=run.step,
        num_tokens=run.num_tokens,
        elapsed_s=run.elapsed_s,
        rounding_errors=rounding_errors(run.model),
    )


# 6. The run --------------------------------------------------------------------------------------


def train(args: argparse.Namespace) -> None:
    """Train until --steps are done and the model directory is written."""
    settings = settings_of(args)
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    cache = args.out / "tokens"
    tokens = prepare(args.data, cache, settings.shape.vocab_size, int(args.max_mb * 1e6))
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists() and not args.resume:
        raise TrainingError(f"{checkpoint} exists; add --resume, or remove it to start anew")
    if args.resume:
        run = load_checkpoint(checkpoint, settings)
    elif args.init_from:
        run = start_from(args.init_from, settings)
    else:
        run = new_run(settings)
    log = Log(args.out / "log.jsonl")
    report_start(log, run, settings, tokens)
    is_stopped = _stop_on_signals()
    while run.step < settings.num_steps and not is_stopped():
        started_s = time.monotonic()
        losses = train_step(run, settings, tokens)
        took_s = time.monotonic() - started_s
        run.elapsed_s += took_s
        report_step(log, run, losses, settings.learning_rate(run.step - 1), took_s)
        _keep(args, run, settings, tokens, log)
    if run.step < settings.num_steps:
        save_checkpoint(run, settings, checkpoint)
    report_end(log, run)


def _stop_on_signals() -> Callable[[], bool]:
    """From now on SIGTERM and SIGINT only make the returned function true."""
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: received.append(number))
    return lambda: bool(received)


def _keep(
    args: argparse.Namespace, run: Run, settings: Settings, tokens: TokenSets, log: Log
) -> None:
    """Evaluate, save and export when their steps have come."""
    is_last = run.step == settings.num_steps
    if _is_due(run.step, args.evaluate_every, is_last):
        report_evaluation(log, run, tokens)
    if _is_due(run.step, args.checkpoint_every, is_last):
        save_checkpoint(run, settings, args.out / "checkpoint.pt")
    if is_last or _is_due(run.step, args.export_every, is_last):
        folder = args.export_dir or args.out / "model"
        save_model(run.model, tokens.tokenizer, folder, args.store_dtype)


def _is_due(step: int, every: int, is_last: bool) -> bool:
    return every > 0 and (is_last or step % every == 0)


if __name__ == "__main__":
    run_command(lambda: train(parse_arguments()))
