"""The comparison with and without the recipe: what it says of scores."""

from typing import Any

import pytest

from bench.exit_training import ARMS, compared, parse, text_table


def report(agreement: list[float], loss: float) -> dict[str, Any]:
    scores = {"agreement": [*agreement, 1.0], "cross_entropy": [9.0, 8.0, 7.0, loss]}
    return {
        "scores": {"stories": scores},
        "num_steps": 10,
        "num_tokens": 2_000_000,
        "train_s": 60.0,
        "config": {},
    }


def test_the_verdict_has_the_ratio_and_the_loss() -> None:
    reports = {"control": report([0.1, 0.2, 0.3], 4.0), "recipe": report([0.45, 0.6, 0.8], 4.1)}
    result = compared(reports)
    assert result["exits"] == [1, 2]
    assert "at exit 1 of 4 layers agreement is 0.45 with the recipe and 0.10" in result["verdict"]
    assert "4.5 times" in result["verdict"]
    assert "4.100 against 4.000 (+2.5%)" in result["verdict"]
    assert "2.0 million tokens" in result["description"]


def test_the_table_has_a_line_for_each_arm_and_text() -> None:
    reports = {"control": report([0.1, 0.2, 0.3], 4.0), "recipe": report([0.45, 0.6, 0.8], 4.1)}
    lines = text_table(compared(reports)).splitlines()
    assert lines[0].split() == ["control", "stories", "0.10", "0.20", "0.30", "loss", "4.000"]
    assert lines[1].split()[0] == "recipe" and len(lines) == 2


def test_the_control_is_ordinary_training() -> None:
    overrides = dict(override.split("=") for override in ARMS["control"])
    assert overrides["recipe.p_max"] == "0"
    assert overrides["recipe.curriculum"] == "last"
    assert overrides["recipe.start_layers"] == "null"
    assert ARMS["recipe"] == ()


@pytest.mark.parametrize("arms", ["recipe", "control,recipes"])
def test_arms_without_a_control_or_unknown_are_refused(arms: str) -> None:
    words = ["--config", "c", "--data", "d", "--out", "o", "--steps", "1", "--arms", arms]
    with pytest.raises(SystemExit):
        parse(words)
