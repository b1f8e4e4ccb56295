"""Train a model so that its shallow layers can draft for the whole of it (LayerSkip).

    shortstack train layerskip --config FILE --data DIR --out DIR [section.name=value ...]
    torchrun --nproc-per-node 8 -m training layerskip --config FILE --data DIR --out DIR

Stages: 1 configuration, 2 texts, 3 model, 4 trainer, 5 the run, 6 what came of it. OUT holds the
trainer's checkpoints, TensorBoard logs, `tokens`, `report.json` and the trained `model`.
Elhoushi et al. 2024, arXiv:2404.16710.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from training.adapters import adapters_of, check_source
from training.clock import Clock
from training.config import RunConfig, read_config
from training.errors import TrainingError
from training.evaluate import ExitScores, score_exits
from training.exits import stack_of
from training.models import base_of, load_model, new_model, prepared, save_model
from training.progress import ProgressView, agreement_table
from training.quality import Quality, quality_of
from training.recipe import Recipe, last_layer_shares
from training.rows_trainer import HeldOut
from training.run_setup import arguments_of, check_fit, checkpoint_of, data_of, mixture_of
from training.texts import read_texts, tokenizer_of
from training.trainer import LayerSkipTrainer


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin."""

    config: RunConfig
    trainer: LayerSkipTrainer
    tokenizer: Any
    held_out: Mapping[str, HeldOut]
    base_scores: Mapping[str, ExitScores] | None
    out: Path


@dataclass(frozen=True)
class Finished:
    """A run that has ended; `quality` is None from scratch, where there is no base."""

    is_first_process: bool
    quality: Quality | None


def train(
    config_path: Path,
    data: Path | None,
    out: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> Finished:
    """Carry out a run, or go on with one.

    Raises:
        TrainingError: an input that the user can mend, or a loss that is no number.
    """
    config = read_config(config_path, overrides)
    checkpoint = checkpoint_of(out, resume)
    run = set_up(config, data or data_of(config), out)
    console = console or Console(quiet=True)
    run.trainer.remove_callback(PrinterCallback)
    run.trainer.add_callback(
        ProgressView(console, lambda title: agreement_table(run.trainer.scores, title))
    )
    clock = Clock(checkpoint)
    run.trainer.add_callback(clock)
    report_start(run, console)
    run.trainer.train(resume_from_checkpoint=checkpoint)
    return finish(run, clock.elapsed_s)


def set_up(config: RunConfig, data: Path | None, out: Path) -> Run:
    """Stages 2 to 4: texts, model, trainer."""
    arguments = arguments_of(config, out)
    set_seed(config.seed)
    transformers_logging.disable_progress_bar()
    if config.exit_adapters is not None:
        check_source(str(config.model.path))
    model = load_model(config.model.path) if config.model.path else None
    positions = _max_positions(config, model)
    tokenizer = tokenizer_of(config, data, out, positions)
    texts = read_texts(config, data, tokenizer, out / "tokens")
    if model is None:
        model = new_model(
            config.model.init or {}, config.seed, len(tokenizer), tokenizer.eos_token_id
        )
    check_fit(model, tokenizer, config)
    held_out = texts.held_out(config.data.valid_rows, config.data.row_len)
    base = base_of(model, config)
    model = prepared(model, config)
    if config.exit_adapters is not None:
        # Scored where it will be scored again: the same bits then give the same numbers.
        model.to(arguments.device)
    base_scores = _base_scores(model, held_out) if config.model.path else None
    trainer = LayerSkipTrainer(
        model=model,
        args=arguments,
        recipe=recipe_of(config, len(stack_of(model).layers)),
        mixture=mixture_of(config, texts, arguments),
        held_out=held_out,
        base_model=base,
    )
    return Run(config, trainer, tokenizer, held_out, base_scores, out)


def recipe_of(config: RunConfig, num_layers: int) -> Recipe:
    """The recipe for a model of so many layers.

    Raises:
        TrainingError: it does not fit the model.
    """
    try:
        return Recipe(num_layers=num_layers, **config.recipe.model_dump())
    except ValueError as error:
        raise TrainingError(f"recipe: {error}") from error


def _max_positions(config: RunConfig, model: Any) -> int:
    if model is not None:
        return int(model.config.max_position_embeddings)
    return int((config.model.init or {}).get("max_position_embeddings", 2048))


def _base_scores(model: Any, held_out: Mapping[str, HeldOut]) -> dict[str, ExitScores]:
    return {name: score_exits(model, text.rows, text.is_task) for name, text in held_out.items()}


def report_start(run: Run, console: Console) -> None:
    """Say what is trained, and how much of the loss lies on the last layer."""
    recipe, arguments = run.trainer.recipe, run.trainer.args
    if not run.trainer.is_world_process_zero():
        return
    mean, least, most = last_layer_shares(recipe, arguments.max_steps)
    share = f"share of the loss on the last layer {mean:.0%} ({least:.0%} to {most:.0%})"
    if run.config.exit_adapters is not None:
        share = "all of them in exit adapters, the model itself stays as it is"
    console.print(
        f"{run.config.name}: {num_parameters(run.trainer.model, trained=True):,} of"
        f" {num_parameters(run.trainer.model):,} parameters, {recipe.num_layers} layers,"
        f" {arguments.max_steps:,} steps of {run.trainer.train_dataset.rows_per_step} rows;"
        f" {share}",
        soft_wrap=True,
    )


def num_parameters(model: Any, trained: bool = False) -> int:
    """Weights of the model, or those that are trained."""
    return sum(
        weight.numel() for weight in model.parameters() if weight.requires_grad or not trained
    )


def _num_beside(model: Any) -> int:
    """Weights that the written model does not have: merged into it, or for drafts alone."""
    adapters = adapters_of(model)
    merged = sum(weight.numel() for name, weight in model.named_parameters() if "lora_" in name)
    return merged + (0 if adapters is None else num_parameters(adapters))


def finish(run: Run, train_s: float) -> Finished:
    """Stage 6: score, write model and report, compare the last layer with the base."""
    scores = {
        name: score_exits(run.trainer.model, text.rows, text.is_task)
        for name, text in run.held_out.items()
    }
    if not run.trainer.is_world_process_zero():
        return Finished(is_first_process=False, quality=None)
    quality = quality_of(run.base_scores, scores, run.config.guard) if run.base_scores else None
    save_model(
        run.trainer.accelerator.unwrap_model(run.trainer.model),
        run.tokenizer, run.out / "model", run.config.model,
    )  # fmt: skip
    write_report(run, scores, quality, train_s)
    return Finished(is_first_process=True, quality=quality)


def write_report(
    run: Run,
    scores: Mapping[str, ExitScores],
    quality: Quality | None,
    train_s: float,
) -> None:
    """OUT/report.json: all that the model card needs."""
    mean, least, most = last_layer_shares(run.trainer.recipe, run.trainer.state.max_steps)
    report = {
        "config": run.config.model_dump(mode="json"),
        "num_parameters": num_parameters(run.trainer.model) - _num_beside(run.trainer.model),
        "num_steps": run.trainer.state.global_step,
        "num_tokens": run.trainer.train_dataset.num_tokens(run.trainer.state.global_step),
        "train_s": round(train_s, 1),
        "last_layer_loss_share": {"mean": mean, "min": least, "max": most},
        "scores": {name: asdict(score) for name, score in scores.items()},
        "base_scores": {name: asdict(score) for name, score in (run.base_scores or {}).items()},
        "quality": quality.as_dict() if quality else None,
    }
    path = run.out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
