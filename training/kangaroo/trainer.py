"""transformers' Trainer with Kangaroo's loss; all else of a run is the Trainer's own."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn
from transformers import TrainingArguments

from training.frozen_base_trainer import FrozenBaseTrainer
from training.kangaroo.adapter import AdaptersOfModel
from training.kangaroo.loss import adapter_losses
from training.kangaroo.scores import AdapterScores, score_adapters
from training.rows import Mixture
from training.rows_trainer import HeldOut


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


class KangarooTrainer(FrozenBaseTrainer):
    """Train draft adapters beside a frozen model."""

    part_noun = "adapter"

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

    def score(self) -> dict[str, float]:
        """Score every adapter on every held-out text."""
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
        return metrics
