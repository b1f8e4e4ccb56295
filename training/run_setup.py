"""What every run sets up alike, whatever it trains: arguments, checkpoints, texts that fit.

Knows nothing of losses.
"""

import dataclasses
import difflib
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from training.config import TextRun
from training.errors import TrainingError
from training.texts import Texts


def data_of(config: TextRun) -> Path | None:
    """The directory of the texts that the file of the run names."""
    return Path(config.data.path) if config.data.path else None


def checkpoint_of(out: Path, resume: bool) -> str | None:
    """The checkpoint to go on from.

    Raises:
        TrainingError: there is none to resume, or there is one that would be overwritten.
    """
    last = get_last_checkpoint(str(out)) if out.is_dir() else None
    if resume and last is None:
        raise TrainingError(f"nothing to resume: {out} holds no checkpoint; leave --resume out")
    if last is not None and not resume:
        raise TrainingError(f"{out} holds {Path(last).name}; add --resume, or remove it")
    return last


def arguments_of(config: TextRun, out: Path) -> TrainingArguments:
    """TrainingArguments of the section `trainer`.

    Raises:
        TrainingError: a name that they do not have, or a value that they refuse.
    """
    # YAML reads a bare `no` as false, and strategies are named no, steps and epoch.
    given = {
        name: "no" if name.endswith("_strategy") and value is False else value
        for name, value in config.trainer.items()
    }
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    unknown = sorted(set(given) - known)
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise TrainingError(
            f"trainer.{unknown[0]} is not an argument of transformers' Trainer{hint}"
        )
    defaults = {
        "logging_steps": 10,
        "report_to": ["tensorboard"],
        "save_total_limit": 2,
        "disable_tqdm": True,
        "optim": "adamw_torch",
        "ddp_find_unused_parameters": True,  # a dropped layer gets no gradient
        "average_tokens_across_devices": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    ours = {
        "output_dir": str(out),
        "seed": config.seed,
        "remove_unused_columns": False,
        "label_names": ["labels"],
    }
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(out / "logs")
    try:
        return TrainingArguments(**(defaults | given | ours))
    except (ValueError, TypeError, ImportError) as error:
        raise TrainingError(f"trainer: {str(error).strip().splitlines()[0]}") from error


def mixture_of(config: TextRun, texts: Texts, arguments: TrainingArguments) -> Any:
    """The training rows of a whole run."""
    rows_per_step = (
        arguments.per_device_train_batch_size
        * arguments.gradient_accumulation_steps
        * arguments.world_size
    )
    return texts.mixture(config.data, config.seed, arguments.max_steps, rows_per_step)


def check_fit(model: Any, tokenizer: Any, config: TextRun) -> None:
    """Refuse rows longer than the model's context and tokens that it has no rows for.

    Raises:
        TrainingError: says which.
    """
    longest = max(config.data.row_len, config.data.long_row_len or 0)
    positions = model.config.max_position_embeddings
    if longest > positions:
        raise TrainingError(f"rows of {longest} tokens exceed the model's context of {positions}")
    if len(tokenizer) > model.config.vocab_size:
        raise TrainingError(
            f"the tokenizer has {len(tokenizer)} tokens, the model only {model.config.vocab_size};"
            " set tokenizer.path to the model's own"
        )
