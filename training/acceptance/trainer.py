"""transformers' Trainer with the loss of acceptance heads; all else is the Trainer's own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import TrainingArguments

from shared.model.acceptance_heads import AcceptanceHeads
from training.acceptance.head import HeadsOfModel
from training.acceptance.looks import Looks
from training.acceptance.loss import head_losses
from training.acceptance.scores import ALL, TextForecasts, score_heads
from training.frozen_base_trainer import FrozenBaseTrainer
from training.rows import Mixture
from training.rows_trainer import HeldOut


class Learner(nn.Module):
    """The heads with their loss as forward: one forward and one backward for any wrapper."""

    def __init__(self, model: HeadsOfModel) -> None:
        super().__init__()
        self.model = model
        self._looks = Looks(model, keeps=model.section.epoch_steps is not None)

    def forward(
        self, input_ids: Tensor, labels: Tensor, num_items: Tensor | int | None = None
    ) -> dict[str, Any]:
        """See `head_losses`."""
        return head_losses(self.model, self._looks(input_ids, labels), num_items)


class AcceptanceTrainer(FrozenBaseTrainer):
    """Train acceptance heads beside a frozen model.

    weights_fingerprint: of the model's weights.
    """

    part_noun = "head"

    def __init__(
        self,
        model: HeadsOfModel,
        args: TrainingArguments,
        mixture: Mixture,
        held_out: Mapping[str, HeldOut],
        weights_fingerprint: str,
    ) -> None:
        super().__init__(Learner(model), args, mixture, held_out)
        self.heads = model
        self.scores: dict[str, TextForecasts] = {}
        self._weights_fingerprint = weights_fingerprint

    def served(self) -> AcceptanceHeads:
        """The heads as they are served."""
        return self.heads.served(self._weights_fingerprint)

    def score(self) -> dict[str, float]:
        """Score every head on every held-out text."""
        self.scores = score_heads(self.heads, self.served(), self.held_out)
        metrics: dict[str, float] = {}
        for name, text in self.scores.items():
            for mood, exits in text.items():
                for each, found in exits.items():
                    place = f"eval_{name}/{mood}"
                    metrics[f"{place}_loss_exit_{each}"] = found.forecasts["head"].loss
                    metrics[f"{place}_auc_exit_{each}"] = found.forecasts["head"].auc
        losses = [
            found.forecasts["head"].loss
            for exits in self.scores[ALL].values()
            for found in exits.values()
        ]
        metrics["eval_loss"] = sum(losses) / len(losses)
        return metrics
