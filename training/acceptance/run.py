"""Train acceptance heads beside a model that stays as it is.

    shortstack train acceptance --config FILE --data DIR --out DIR [section.name=value ...]
    torchrun --nproc-per-node 8 -m training acceptance --config FILE --data DIR --out DIR

Stages: 1 configuration, 2 texts, 3 model and heads, 4 the model's own text, 5 trainer, 6 the run,
7 what came of it. OUT holds the trainer's checkpoints (heads alone), logs, `tokens`, `own_text`,
`report.json`, and the heads in `acceptance_heads`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from shared.errors import BadModel
from shared.model.acceptance_head_file import FOLDER, write_acceptance_heads
from shared.model.config import ModelConfig
from shared.model.config import read_config as read_model_config
from shared.model.exit_adapters import ExitAdapters
from shared.model.weights import weights_fingerprint
from training.acceptance.card import scores_table, write_card
from training.acceptance.head import HeadsOfModel
from training.acceptance.looks import Looks
from training.acceptance.own_text import own_texts
from training.acceptance.scores import TextForecasts
from training.acceptance.trainer import AcceptanceTrainer
from training.adapters import check_source
from training.clock import Clock
from training.config import AcceptanceRun, read_config
from training.errors import TrainingError
from training.models import load_model
from training.progress import ProgressView
from training.rows import Mixture
from training.rows_trainer import stack_rows
from training.run_setup import arguments_of, check_fit, checkpoint_of, data_of, mixture_of
from training.sections import AcceptanceSection
from training.texts import Texts, read_texts, tokenizer_of

ROWS_TO_STANDARDISE = 32
"""Rows that mean and deviation of the features are taken from."""


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin."""

    config: AcceptanceRun
    trainer: AcceptanceTrainer
    out: Path


def train(
    config_path: Path,
    data: Path | None,
    out: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> Path | None:
    """Carry out a run, or go on with one; return the folder of heads, on the first process.

    Raises:
        TrainingError: an input that the user can mend, or a loss that is no number.
    """
    config = read_config(config_path, overrides, AcceptanceRun)
    checkpoint = checkpoint_of(out, resume)
    console = console or Console(quiet=True)
    run = set_up(config, data or data_of(config), out, console)
    trainer = run.trainer
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressView(console, lambda title: scores_table(trainer.scores, title)))
    clock = Clock(checkpoint)
    trainer.add_callback(clock)
    report_start(run, console)
    trainer.train(resume_from_checkpoint=checkpoint)
    return finish(run, clock.elapsed_s, console)


def set_up(config: AcceptanceRun, data: Path | None, out: Path, console: Console) -> Run:
    """Stages 2 to 5.

    Raises:
        TrainingError: an input that the user can mend.
    """
    arguments = arguments_of(config, out)
    set_seed(config.seed)
    transformers_logging.disable_progress_bar()
    source = check_source(str(config.model.path))
    model_config = _served_config(source)
    exits, adapters = _exits_as_served(config.acceptance, model_config)
    base = load_model(str(source)).to(arguments.device)
    tokenizer = tokenizer_of(config, data, out, model_config.max_context_len)
    texts = read_texts(config, data, tokenizer, out / "tokens")
    check_fit(base, tokenizer, config)
    heads = HeadsOfModel(base, exits, config.acceptance, adapters, config.seed)
    heads.to(arguments.device)
    held_out = texts.held_out(config.data.valid_rows, config.data.row_len)
    mixture = replace(
        mixture_of(config, texts, arguments), epoch_steps=config.acceptance.epoch_steps
    )
    fingerprint = weights_fingerprint(source)
    if config.acceptance.own_share:
        own = own_texts(config, texts, base, fingerprint, out / "own_text", console)
        held_out |= own.held_out(config.data.valid_rows, config.data.row_len)
        mixture = with_own_rows(mixture, own, config.acceptance.own_share)
    standardise(heads, mixture)
    return Run(config, AcceptanceTrainer(heads, arguments, mixture, held_out, fingerprint), out)


def _served_config(source: Path) -> ModelConfig:
    """The model as it is served."""
    try:
        return read_model_config(source)
    except BadModel as error:
        raise TrainingError(error.message) from error


def _exits_as_served(
    section: AcceptanceSection, model_config: ModelConfig
) -> tuple[list[int], ExitAdapters | None]:
    """Exits that get a head, and what exits are read through."""
    num_layers = model_config.num_layers
    exits = sorted(section.exits or range(1, num_layers))
    if not exits or exits[-1] >= num_layers:
        raise TrainingError(
            f"acceptance.exits: a model of {num_layers} layers has no exit"
            f" {exits[-1] if exits else 1}; its exits end at {num_layers - 1}"
        )
    try:
        return exits, model_config.find_exit_adapters(section.exit_adapters)
    except BadModel as error:
        raise TrainingError(f"acceptance.exit_adapters: {error.message}") from error


def with_own_rows(mixture: Mixture, own: Texts, own_share: float) -> Mixture:
    """Let a share of the rows of every source be the model's own."""
    own_shares = [share * own_share for share in mixture.shares]
    if own_share == 1:
        return replace(mixture, sources=own.train, shares=own_shares)
    given_shares = [share * (1 - own_share) for share in mixture.shares]
    return replace(
        mixture, sources={**mixture.sources, **own.train}, shares=[*given_shares, *own_shares]
    )


def standardise(model: HeadsOfModel, mixture: Mixture) -> None:
    """Let every head take mean and deviation of its features from the first rows of the run."""
    device = next(model.parameters()).device
    rows = [mixture[index] for index in range(min(ROWS_TO_STANDARDISE, len(mixture)))]
    # Rows of long steps are of another length; their beginning does as well.
    row_len = min(len(row["input_ids"]) for row in rows)
    cut = stack_rows([{name: ids[:row_len] for name, ids in row.items()} for row in rows])
    looks = Looks(model, keeps=False)(cut["input_ids"].to(device), cut["labels"].to(device))
    for each, seen in looks.items():
        model.head(each).standardise(seen.features(model))


def report_start(run: Run, console: Console) -> None:
    """Say what is trained."""
    trainer, exits = run.trainer, ", ".join(map(str, run.trainer.heads.exits))
    if not trainer.is_world_process_zero():
        return
    console.print(
        f"{run.config.name}: {num_parameters(run):,} weights in each acceptance head, at exits"
        f" {exits}; {trainer.args.max_steps:,} steps of {trainer.train_dataset.rows_per_step} rows;"
        " the model itself stays as it is",
        soft_wrap=True,
    )


def num_parameters(run: Run) -> int:
    """Weights of each head."""
    heads = run.trainer.heads
    return sum(weight.numel() for weight in heads.head(heads.exits[0]).parameters())


def finish(run: Run, train_s: float, console: Console) -> Path | None:
    """Stage 7: score, write heads, report and card."""
    trainer = run.trainer
    trainer.score()
    if not trainer.is_world_process_zero():
        return None
    dtype_name = run.config.acceptance.store_dtype
    path = write_acceptance_heads(trainer.served(), run.out, dtype_name)
    write_report(run, trainer.scores, train_s)
    write_card(run.out)
    console.print(scores_table(trainer.scores, "trained"))
    return path.parent


def install(folder: Path, model_dir: Path) -> Path:
    """Copy heads and card beside their model, where workers look for them; return that folder."""
    target = model_dir / FOLDER
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def write_report(run: Run, scores: Mapping[str, TextForecasts], train_s: float) -> None:
    """OUT/report.json: all that the card needs."""
    trainer = run.trainer
    report: dict[str, Any] = {
        "config": run.config.model_dump(mode="json"),
        "exits": trainer.heads.exits,
        "num_parameters": num_parameters(run),
        "num_steps": trainer.state.global_step,
        "num_tokens": trainer.train_dataset.num_tokens(trainer.state.global_step),
        "train_s": round(train_s, 1),
        "scores": {
            name: {
                mood: {each: asdict(found) for each, found in exits.items()}
                for mood, exits in text.items()
            }
            for name, text in scores.items()
        },
    }
    path = run.out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
