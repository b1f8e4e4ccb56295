"""Train draft adapters beside a model that stays as it is (Kangaroo, arXiv:2404.18911).

    shortstack train kangaroo --config FILE --data DIR --out DIR [section.name=value ...]
    torchrun --nproc-per-node 8 -m training kangaroo --config FILE --data DIR --out DIR

Stages: 1 configuration, 2 texts, 3 model and adapters, 4 trainer, 5 the run, 6 what came of it. OUT
holds the trainer's checkpoints (adapters alone), logs, `tokens`, `report.json`, and the adapters in
`draft_adapters`, one folder for each exit.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging

from shared.errors import BadModel
from shared.model.config import ModelConfig
from shared.model.config import read_config as read_model_config
from shared.model.draft_adapter_file import FOLDER, AdapterOrigin, write_draft_adapter
from training.adapters import check_source
from training.clock import Clock
from training.config import KangarooRun, read_config
from training.errors import TrainingError
from training.kangaroo.adapter import RAW_EXIT, AdaptersOfModel
from training.kangaroo.card import scores_table, write_card
from training.kangaroo.scores import AdapterScores, score_adapters
from training.kangaroo.trainer import KangarooTrainer
from training.models import load_model
from training.progress import ProgressView
from training.rows_trainer import HeldOut
from training.run_setup import arguments_of, check_fit, checkpoint_of, data_of, mixture_of
from training.texts import read_texts, tokenizer_of


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin.

    untrained: scores of the adapters before their first step.
    """

    config: KangarooRun
    model_config: ModelConfig
    trainer: KangarooTrainer
    held_out: Mapping[str, HeldOut]
    untrained: Mapping[str, AdapterScores]
    out: Path


def train(
    config_path: Path,
    data: Path | None,
    out: Path,
    overrides: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> Path | None:
    """Carry out a run, or go on with one; return the folder of adapters, on the first process.

    Raises:
        TrainingError: an input that the user can mend, or a loss that is no number.
    """
    config = read_config(config_path, overrides, KangarooRun)
    checkpoint = checkpoint_of(out, resume)
    run = set_up(config, data or data_of(config), out)
    console = console or Console(quiet=True)
    trainer = run.trainer
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressView(console, lambda title: scores_table(trainer.scores, title)))
    clock = Clock(checkpoint)
    trainer.add_callback(clock)
    report_start(run, console)
    trainer.train(resume_from_checkpoint=checkpoint)
    return finish(run, clock.elapsed_s, console)


def set_up(config: KangarooRun, data: Path | None, out: Path) -> Run:
    """Stages 2 to 4.

    Raises:
        TrainingError: an input that the user can mend.
    """
    arguments = arguments_of(config, out)
    set_seed(config.seed)
    transformers_logging.disable_progress_bar()
    source = check_source(str(config.model.path))
    model_config = _served_config(source, config)
    base = load_model(str(source))
    tokenizer = tokenizer_of(config, data, out, model_config.max_context_len)
    texts = read_texts(config, data, tokenizer, out / "tokens")
    check_fit(base, tokenizer, config)
    held_out = texts.held_out(config.data.valid_rows, config.data.row_len)
    layout = model_config.adapter_host.layout
    adapters = AdaptersOfModel(
        base.to(arguments.device), layout, config.draft_adapters.exits, config.seed
    )
    if config.draft_adapters.start == RAW_EXIT:
        adapters.start_at_raw_exits()
    adapters.to(arguments.device)
    trainer = KangarooTrainer(adapters, arguments, mixture_of(config, texts, arguments), held_out)
    untrained = {name: score_adapters(adapters, text.rows) for name, text in held_out.items()}
    return Run(config, model_config, trainer, held_out, untrained, out)


def _served_config(source: Path, config: KangarooRun) -> ModelConfig:
    """The model as it is served, which has the exits asked for."""
    try:
        model_config = read_model_config(source)
    except BadModel as error:
        raise TrainingError(error.message) from error
    last = max(config.draft_adapters.exits)
    if last >= model_config.num_layers:
        raise TrainingError(
            f"draft_adapters.exits: a model of {model_config.num_layers} layers has no exit {last};"
            f" its exits end at {model_config.num_layers - 1}"
        )
    return model_config


def report_start(run: Run, console: Console) -> None:
    """Say what is trained."""
    trainer, exits = run.trainer, ", ".join(map(str, run.trainer.adapters.exits))
    if not trainer.is_world_process_zero():
        return
    num_weights = sum(num_parameters(run).values())
    console.print(
        f"{run.config.name}: {num_weights:,} weights in draft adapters at exits {exits};"
        f" {trainer.args.max_steps:,} steps of {trainer.train_dataset.rows_per_step} rows; the"
        " model itself stays as it is",
        soft_wrap=True,
    )


def num_parameters(run: Run) -> dict[int, int]:
    """Weights of every adapter, by exit."""
    adapters = run.trainer.adapters
    return {each: adapters.weights_of(each).num_parameters for each in adapters.exits}


def finish(run: Run, train_s: float, console: Console) -> Path | None:
    """Stage 6: score, write adapters, report and card."""
    trainer = run.trainer
    scores = {
        name: score_adapters(trainer.adapters, text.rows) for name, text in run.held_out.items()
    }
    if not trainer.is_world_process_zero():
        return None
    folder = write_adapters(run, run.out / FOLDER)
    write_report(run, scores, train_s)
    write_card(run.out)
    console.print(scores_table(scores, "trained"))
    return folder


def write_adapters(run: Run, folder: Path) -> Path:
    """Write every adapter below a folder; adapters of other exits that it holds are kept."""
    sources = ", ".join(f"{each.name} {each.share:.0%}" for each in run.config.data.sources)
    origin = AdapterOrigin(sources, run.trainer.state.global_step)
    for exit_layer in run.trainer.adapters.exits:
        weights = run.trainer.adapters.weights_of(exit_layer)
        write_draft_adapter(weights, run.model_config.adapter_host, origin, folder)
    return folder


def install(folder: Path, model_dir: Path) -> Path:
    """Copy adapters beside their model, where workers look for them; return that folder."""
    target = model_dir / FOLDER
    for own in sorted(folder.iterdir()):
        if own.is_dir():
            shutil.rmtree(target / own.name, ignore_errors=True)
            shutil.copytree(own, target / own.name)
    return target


def write_report(run: Run, scores: Mapping[str, AdapterScores], train_s: float) -> None:
    """OUT/report.json: all that the card needs."""
    trainer = run.trainer
    report: dict[str, Any] = {
        "config": run.config.model_dump(mode="json"),
        "exits": trainer.adapters.exits,
        "num_parameters": {
            each: sum(
                weight.numel() for weight in trainer.adapters.adapters[str(each)].parameters()
            )
            for each in trainer.adapters.exits
        },
        "num_steps": trainer.state.global_step,
        "num_tokens": trainer.train_dataset.num_tokens(trainer.state.global_step),
        "train_s": round(train_s, 1),
        "scores": {name: asdict(each) for name, each in scores.items()},
        "untrained": {name: asdict(each) for name, each in run.untrained.items()},
    }
    path = run.out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
