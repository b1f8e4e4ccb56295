"""The quality guard: warnings at the thresholds, not before."""

from dataclasses import replace

import pytest

from training.evaluate import ExitScores
from training.quality import quality_of
from training.sections import GuardSection

GUARD = GuardSection(max_loss_increase=0.03, max_accuracy_drop=0.02)
BASE = ExitScores(
    agreement=[0.2, 1.0], sampled_agreement=[0.1, 1.0], cross_entropy=[5.0, 2.0],
    token_accuracy=0.5, exact_match=None, num_tokens=100,
)  # fmt: skip


def warnings_of(base: ExitScores, trained: ExitScores) -> tuple[str, ...]:
    return quality_of({"words": base}, {"words": trained}, GUARD).warnings


@pytest.mark.parametrize(("loss", "num_warnings"), [(1.5, 0), (2.0, 0), (2.059, 0), (2.061, 1)])
def test_a_loss_that_rises_beyond_the_guard_is_warned_of(loss: float, num_warnings: int) -> None:
    found = warnings_of(BASE, replace(BASE, cross_entropy=[1.0, loss]))
    assert len(found) == num_warnings
    assert all("words: the last layer's loss rose by 3.0% (2.000 to 2.061)" in t for t in found)


@pytest.mark.parametrize(("accuracy", "num_warnings"), [(0.6, 0), (0.481, 0), (0.479, 1)])
def test_a_token_accuracy_that_falls_beyond_the_guard_is_warned_of(
    accuracy: float, num_warnings: int
) -> None:
    found = warnings_of(BASE, replace(BASE, token_accuracy=accuracy))
    assert len(found) == num_warnings
    assert all("words: accuracy of next tokens fell from 50.0% to 47.9%" in text for text in found)


def test_of_tasks_the_accuracy_is_that_of_whole_completions() -> None:
    base, worse = replace(BASE, exact_match=0.8), replace(BASE, exact_match=0.7)
    (text,) = warnings_of(base, worse)
    assert "accuracy of completions fell from 80.0% to 70.0%" in text
    assert warnings_of(base, replace(base, token_accuracy=0.0)) == ()


def test_a_task_that_was_never_solved_gives_no_warning() -> None:
    base = replace(BASE, exact_match=0.0)
    assert warnings_of(base, base) == ()


def test_all_sources_are_compared_and_told() -> None:
    trained = {"a": replace(BASE, cross_entropy=[1.0, 3.0]), "b": replace(BASE, token_accuracy=0)}
    quality = quality_of({"a": BASE, "b": BASE}, trained, GUARD)
    assert [text[0] for text in quality.warnings] == ["a", "b"]
    values = quality.as_dict()["sources"]
    assert values["a"]["loss_increase"] == pytest.approx(0.5)
    assert values["b"]["accuracy_drop"] == pytest.approx(0.5)
    assert values["b"]["accuracy_of"] == "next tokens"
