"""The quality guard: what teaching the exits cost the last layer.

Compares the model that a run began with and the one it made, on the same held-out rows. Values in,
values out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from training.evaluate import ExitScores
from training.sections import GuardSection


@dataclass(frozen=True)
class SourceQuality:
    """Last layer of base and trained model on one source; accuracies are of greedy choices."""

    base_loss: float
    trained_loss: float
    base_accuracy: float
    trained_accuracy: float
    accuracy_of: str

    @property
    def loss_increase(self) -> float:
        """Relative; negative when the trained model is better."""
        return self.trained_loss / self.base_loss - 1

    @property
    def accuracy_drop(self) -> float:
        """Absolute; negative when the trained model is better."""
        return self.base_accuracy - self.trained_accuracy


@dataclass(frozen=True)
class Quality:
    """All sources, and what fell below the guard's thresholds."""

    sources: Mapping[str, SourceQuality]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for reports."""
        sources = {
            name: asdict(source)
            | {"loss_increase": source.loss_increase, "accuracy_drop": source.accuracy_drop}
            for name, source in self.sources.items()
        }
        return {"sources": sources, "warnings": list(self.warnings)}


def quality_of(
    base: Mapping[str, ExitScores], trained: Mapping[str, ExitScores], guard: GuardSection
) -> Quality:
    """Compare last layers, source by source."""
    sources = {name: _compare(base[name], trained[name]) for name in base}
    warnings = [text for name, source in sources.items() for text in _warnings(name, source, guard)]
    return Quality(sources, tuple(warnings))


def _compare(base: ExitScores, trained: ExitScores) -> SourceQuality:
    """Task accuracy is that of whole completions where there are any, else of next tokens."""
    is_task = base.exact_match is not None and trained.exact_match is not None
    return SourceQuality(
        base_loss=base.cross_entropy[-1],
        trained_loss=trained.cross_entropy[-1],
        base_accuracy=(base.exact_match or 0.0) if is_task else base.token_accuracy,
        trained_accuracy=(trained.exact_match or 0.0) if is_task else trained.token_accuracy,
        accuracy_of="completions" if is_task else "next tokens",
    )


def _warnings(name: str, source: SourceQuality, guard: GuardSection) -> list[str]:
    found = []
    if source.loss_increase > guard.max_loss_increase:
        found.append(
            f"{name}: the last layer's loss rose by {source.loss_increase:.1%}"
            f" ({source.base_loss:.3f} to {source.trained_loss:.3f}); lower recipe.e_scale or"
            " raise recipe.rotation or recipe.base_distillation"
        )
    if source.accuracy_drop > guard.max_accuracy_drop:
        found.append(
            f"{name}: accuracy of {source.accuracy_of} fell from {source.base_accuracy:.1%}"
            f" to {source.trained_accuracy:.1%}"
        )
    return found
