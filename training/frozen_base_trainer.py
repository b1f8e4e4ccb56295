"""transformers' Trainer for what learns by exit beside a frozen model.

Knows neither what learns nor its loss: the forward of the model that is trained returns `loss`, and
`exit_losses` by exit layer.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import TrainingError
from training.rows_trainer import RowsTrainer


class FrozenBaseTrainer(RowsTrainer):
    """Train one part for each exit; no part depends on another.

    part_noun: what a part is called in errors.
    """

    part_noun: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._exit_losses: dict[int, list[Tensor]] = {}

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Score every part on every held-out text; return metrics, `eval_loss` among them."""

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
                    f"the loss of the {self.part_noun} at {exit_layer} is {loss.item()} at step"
                    f" {self.state.global_step}; lower trainer.learning_rate and resume"
                )
            self._exit_losses.setdefault(exit_layer, []).append(loss * scale)
        loss = found["loss"] * scale
        return (loss, found) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean losses of the parts since the last line, by exit."""
        if "loss" in logs:
            accumulated = self.args.gradient_accumulation_steps
            for exit_layer, losses in sorted(self._exit_losses.items()):
                mean = torch.stack(losses).mean().item() * accumulated
                logs[f"loss_exit_{exit_layer}"] = round(mean, 4)
            self._exit_losses = {}
        super().log(logs, start_time)

    def evaluate(self, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Score; all of it goes to the logs."""
        metrics = self.score()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics
