"""transformers' Trainer with Kangaroo's loss; all else of a run is the Trainer's own."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from training.errors import TrainingError
from training.kangaroo.adapter import AdaptersOfModel
from training.kangaroo.loss import adapter_losses
from training.kangaroo.scores import AdapterScores, score_adapters
from training.rows import Mixture
from training.rows_trainer import HeldOut, RowsTrainer


class Learner(nn.Module):
    """The adapters with their loss as forward: one forward and one backward for any wrapper."""

    def __init__(self, model: AdaptersOfModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, labels: Tensor, num_items: Tensor | int | None = None
    ) -> dict[str, Any]:
        """See `adapter_losses`."""
        return adapter_losses(self.model, input_ids, labels, num_items)


class KangarooTrainer(RowsTrainer):
    """Train draft adapters beside a frozen model."""

    def __init__(
        self,
        model: AdaptersOfModel,
        args: TrainingArguments,
        mixture: Mixture,
        held_out: Mapping[str, HeldOut],
    ) -> None:
        super().__init__(Learner(model), args, mixture, held_out)
        self.adapters = model
        self.scores: dict[str, AdapterScores] = {}
        self._exit_losses: dict[int, list[Tensor]] = {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The loss of a micro-batch, scaled for accumulation and for the average over ranks."""
        found = model(**inputs, num_items=num_items_in_batch)
        scale = self._loss_scale(num_items_in_batch)
        for exit_layer, loss in found["exit_losses"].items():
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss of the adapter at {exit_layer} is {loss.item()} at step"
                    f" {self.state.global_step}; lower trainer.learning_rate and resume"
                )
            self._exit_losses.setdefault(exit_layer, []).append(loss * scale)
        loss = found["loss"] * scale
        return (loss, found) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean losses of the adapters since the last line, by exit."""
        if "loss" in logs:
            accumulated = self.args.gradient_accumulation_steps
            for exit_layer, losses in sorted(self._exit_losses.items()):
                mean = torch.stack(losses).mean().item() * accumulated
                logs[f"loss_exit_{exit_layer}"] = round(mean, 4)
            self._exit_losses = {}
        super().log(logs, start_time)

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Score every adapter on every held-out text; all of it goes to the logs."""
        metrics: dict[str, float] = {}
        self.scores |= {
            name: score_adapters(self.adapters, text.rows) for name, text in self.held_out.items()
        }
        for name, scores in self.scores.items():
            for exit_layer, one in scores.adapters.items():
                for score, value in asdict(one).items():
                    metrics[f"eval_{name}/{score}_exit_{exit_layer}"] = value
        losses = [
            one.cross_entropy for text in self.scores.values() for one in text.adapters.values()
        ]
        metrics["eval_loss"] = sum(losses) / len(losses)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
