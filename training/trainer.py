"""transformers' Trainer with LayerSkip's loss; all else of a run is the Trainer's own.

One process, DDP and FSDP, precision, accumulation, checkpoints, schedules and logs come from
TrainingArguments. Ours: the plan of each micro-batch, the rows in their order, and scores of every
exit in place of one evaluation loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from training.errors import TrainingError
from training.evaluate import ExitScores, score_exits
from training.exits import StepPlan, plan_step
from training.growth import Growth
from training.losses import exit_losses
from training.recipe import Draws, Recipe, stage_of
from training.rows import Mixture, Row


@dataclass(frozen=True)
class HeldOut:
    """Rows that the exits are scored on."""

    rows: Sequence[Row]
    is_task: bool


class LayerSkipTrainer(Trainer):
    """Train a causal language model so that its early exits are fit to draft.

    The model's forward is replaced by the loss of the recipe for as long as it trains here, so
    that wrappers (DDP, FSDP, adapters) see one forward and one backward as from any model.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        recipe: Recipe,
        mixture: Mixture,
        held_out: Mapping[str, HeldOut],
        base_model: nn.Module | None = None,
    ) -> None:
        if args.n_gpu > 1:
            raise TrainingError(
                f"one process cannot train on {args.n_gpu} devices; start one process for each"
                " with torchrun, or name one device in CUDA_VISIBLE_DEVICES"
            )
        target: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        target.forward = partial(_forward, target, base_model)
        super().__init__(
            model=model,
            args=args,
            train_dataset=mixture,
            eval_dataset={name: text.rows for name, text in held_out.items()},
            data_collator=stack_rows,
        )
        self.add_callback(Growth(recipe))
        self.recipe = recipe
        self.held_out = held_out
        self.scores: dict[str, ExitScores] = {}
        self.model_accepts_loss_kwargs = True  # the step's number of learnt tokens is passed on
        self._loss_shifts_labels = False  # rows come with labels already shifted
        self._micro_batch = (-1, -1)
        self._exit_losses: dict[int, list[Tensor]] = {}

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

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """J(t) of a micro-batch, scaled for accumulation and for the average over ranks."""
        draws = Draws(self.args.seed, self.state.global_step, self._next_micro_batch())
        plan = plan_step(self.recipe, draws, self.state.max_steps)
        found = model(**inputs, plan=plan, num_items=num_items_in_batch)
        scale = self._loss_scale(num_items_in_batch)
        self._note(found["exit_losses"], scale)
        loss = found["loss"] * scale
        return (loss, found) if return_outputs else loss

    def _loss_scale(self, num_items_in_batch: Any) -> int:
        """What undoes the mean over ranks, where the loss is divided by the tokens of all ranks."""
        of_all_ranks = self.args.average_tokens_across_devices and num_items_in_batch is not None
        return int(self.accelerator.num_processes) if of_all_ranks else 1

    def _next_micro_batch(self) -> int:
        """Index of this micro-batch within its optimiser step, from 0."""
        step, index = self._micro_batch
        self._micro_batch = (
            self.state.global_step,
            index + 1 if step == self.state.global_step else 0,
        )
        return self._micro_batch[1]

    def _note(self, losses: Mapping[int, Tensor], scale: int) -> None:
        """Keep the exits' losses until the next log line; refuse losses that are not numbers."""
        first = self._micro_batch[1] == 0
        for layer, loss in losses.items():
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss of exit {layer + 1} is {loss.item()} at step"
                    f" {self.state.global_step}; lower trainer.learning_rate and resume"
                )
            steps = self._exit_losses.setdefault(layer, [])
            if first or not steps:
                steps.append(loss * scale)
            else:
                steps[-1] = steps[-1] + loss * scale

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean losses of the exits since the last line, by exit."""
        if "loss" in logs:
            for layer, losses in sorted(self._exit_losses.items()):
                logs[f"loss_exit_{layer + 1}"] = round(torch.stack(losses).mean().item(), 4)
            self._exit_losses = {}
        super().log(logs, start_time)

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Score every exit on every held-out text; all of it goes to the logs."""
        stage = stage_of(self.recipe, self.state.global_step, self.state.max_steps)
        metrics: dict[str, float] = {}
        for name, held_out in self.held_out.items():
            scores = score_exits(self.model, held_out.rows, held_out.is_task, stage.num_layers)
            self.scores[name] = scores
            metrics |= flat_metrics(name, scores)
        losses = [scores.cross_entropy[-1] for scores in self.scores.values()]
        metrics["eval_loss"] = sum(losses) / len(losses)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


def _forward(
    model: nn.Module,
    base_model: nn.Module | None,
    *,
    input_ids: Tensor,
    labels: Tensor,
    plan: StepPlan,
    num_items: Tensor | int | None = None,
    **_from_wrappers: Any,
) -> dict[str, Any]:
    """The forward of a model in training; adapters pass arguments of their own, all None here."""
    return exit_losses(model, input_ids, labels, plan, num_items, base_model=base_model)


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


def flat_metrics(name: str, scores: ExitScores) -> dict[str, float]:
    """Scores under the names that logs and TensorBoard show."""
    metrics = {
        f"eval_{name}/loss": scores.cross_entropy[-1],
        f"eval_{name}/token_accuracy": scores.token_accuracy,
    }
    if scores.exact_match is not None:
        metrics[f"eval_{name}/exact_match"] = scores.exact_match
    for index, value in enumerate(scores.agreement[:-1], start=1):
        metrics[f"eval_{name}/agreement_exit_{index}"] = value
        metrics[f"eval_{name}/loss_exit_{index}"] = scores.cross_entropy[index - 1]
    return metrics
