"""transformers' Trainer with LayerSkip's loss; all else of a run is the Trainer's own.

Ours: the plan of each micro-batch, and scores of every exit in place of one evaluation loss.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from training.errors import TrainingError
from training.evaluate import ExitScores, score_exits
from training.exits import StepPlan, plan_step
from training.growth import Growth
from training.losses import exit_losses
from training.recipe import Draws, Recipe, stage_of
from training.rows import Mixture
from training.rows_trainer import HeldOut, RowsTrainer


class LayerSkipTrainer(RowsTrainer):
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
        target: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        target.forward = partial(_forward, target, base_model)
        super().__init__(model, args, mixture, held_out)
        self.add_callback(Growth(recipe))
        self.recipe = recipe
        self.scores: dict[str, ExitScores] = {}
        self._micro_batch = (-1, -1)
        self._exit_losses: dict[int, list[Tensor]] = {}

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
