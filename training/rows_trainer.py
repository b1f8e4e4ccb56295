"""transformers' Trainer over our rows: what every loss of ours needs beside it.

One process, DDP and FSDP, precision, accumulation, checkpoints, schedules and logs come from
TrainingArguments. Ours: the rows in their order, and a checkpoint that is looked at before it is
trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from training.errors import TrainingError
from training.rows import Mixture, Row


@dataclass(frozen=True)
class HeldOut:
    """Rows that the exits are scored on."""

    rows: Sequence[Row]
    is_task: bool


class RowsTrainer(Trainer):
    """A Trainer that reads rows in their order; its model's forward returns the loss."""

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        mixture: Mixture,
        held_out: Mapping[str, HeldOut],
    ) -> None:
        if args.n_gpu > 1:
            raise TrainingError(
                f"one process cannot train on {args.n_gpu} devices; start one process for each"
                " with torchrun, or name one device in CUDA_VISIBLE_DEVICES"
            )
        super().__init__(
            model=model,
            args=args,
            train_dataset=mixture,
            eval_dataset={name: text.rows for name, text in held_out.items()},
            data_collator=stack_rows,
        )
        self.held_out = held_out
        self.model_accepts_loss_kwargs = True  # the step's number of learnt tokens is passed on
        self._loss_shifts_labels = False  # rows come with labels already shifted

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        """Train, or go on from a checkpoint directory.

        Raises:
            TrainingError: the checkpoint is damaged, or a loss is no number.
        """
        if resume_from_checkpoint is not None:
            check_checkpoint(Path(resume_from_checkpoint))
        return super().train(resume_from_checkpoint, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def _loss_scale(self, num_items_in_batch: Any) -> int:
        """What undoes the mean over ranks, where the loss is divided by the tokens of all ranks."""
        of_all_ranks = self.args.average_tokens_across_devices and num_items_in_batch is not None
        return int(self.accelerator.num_processes) if of_all_ranks else 1


def check_checkpoint(path: Path) -> None:
    """Open the files of a checkpoint.

    Raises:
        TrainingError: one of them is missing or damaged.
    """
    try:
        TrainerState.load_from_json(str(path / TRAINER_STATE_NAME))
        for weights in path.glob("*.safetensors"):
            with safe_open(weights, "pt"):
                pass
        for tensors in path.glob("*.pt"):
            torch.load(tensors, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # json, safetensors, pickle and torch raise a dozen kinds
        reason = str(error).strip().split("\n")[0]
        raise TrainingError(
            f"checkpoint {path} is damaged: {reason}; remove it to resume from the one before"
        ) from error


def stack_rows(rows: Sequence[Row]) -> Row:
    """Stack the rows of a micro-batch; they are of one length."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
