"""What the recipe does to the exits: the same model, data, seed and steps, with and without it.

    python -m bench.exit_training --config training/regimes/scratch.yaml --data DIR --out DIR \\
        --steps N [--arms control,recipe] [section.name=value ...]

Arms: `control` is ordinary training, all layers from the first step, no early loss, no dropout;
`dropout` and `exits` have one half of the recipe each; `recipe` is the configuration as it stands;
`ungrown` is the recipe with all layers from the first step. Every arm is a run of `shortstack train
layerskip`; a finished one in OUT is taken as it is. Prints a table of agreement with the last layer
and of its loss, and writes bench/results/exit-training-MACHINE.json, which `shortstack train card`
puts into a model card.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.decode import RESULTS, machine_slug
from shared.telemetry.machine import describe_machine

ORDINARY = ("recipe.start_layers=null", "recipe.grow_at=0", "recipe.exit_distillation=0")
ARMS: Mapping[str, Sequence[str]] = {
    "control": (*ORDINARY, "recipe.p_max=0", "recipe.curriculum=last"),
    "dropout": (*ORDINARY, "recipe.curriculum=last"),
    "exits": (*ORDINARY, "recipe.p_max=0"),
    "ungrown": ORDINARY[:2],
    "recipe": (),
}
"""Overrides by arm."""

Scores = Mapping[str, Mapping[str, Any]]


def main(arguments: Sequence[str]) -> None:
    """Train the arms, compare, write."""
    options = parse(arguments)
    reports = {arm: run_arm(arm, options) for arm in options.arms}
    result = compared(reports)
    print(text_table(result))
    print(result["verdict"])
    path = RESULTS / f"exit-training-{machine_slug(result['machine'])}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(path)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, required=True, help="YAML of the recipe's run")
    parser.add_argument("--data", type=Path, required=True, help="directory of the texts")
    parser.add_argument("--out", type=Path, required=True, help="a directory of each arm goes here")
    parser.add_argument("--steps", type=int, required=True, help="optimiser steps of every arm")
    parser.add_argument("--arms", default="control,recipe", help=f"of {', '.join(ARMS)}")
    parser.add_argument("overrides", nargs="*", help="section.name=value, for all arms")
    options = parser.parse_args(arguments)
    options.arms = options.arms.split(",")
    unknown = [arm for arm in options.arms if arm not in ARMS]
    if unknown or "control" not in options.arms:
        parser.error(f"--arms needs control and others of {', '.join(ARMS)}; got {unknown}")
    return options


def run_arm(arm: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one arm unless OUT has it; return its report."""
    out = options.out / arm
    if not (out / "report.json").exists():
        command = [
            *(sys.executable, "-m", "training", "layerskip"),
            *("--config", str(options.config), "--data", str(options.data), "--out", str(out)),
            f"trainer.max_steps={options.steps}",
            *("trainer.eval_strategy=no", "trainer.save_strategy=no"),
            *options.overrides,
            *ARMS[arm],
        ]
        print(f"{arm}: {' '.join(command[1:])}", flush=True)
        subprocess.run(command, check=True)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report["num_steps"] != options.steps:
        sys.exit(f"{out} holds a run of {report['num_steps']} steps; remove it")
    return report


def compared(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of the arms side by side, with the machine and what follows from them."""
    control = reports["control"]
    num_layers = len(next(iter(control["scores"].values()))["agreement"])
    exits = [max(1, num_layers // 4), num_layers // 2]
    arms = {arm: report["scores"] for arm, report in reports.items()}
    return {
        "description": (
            f"The same model, data, seed and {control['num_steps']:,} steps"
            f" ({control['num_tokens'] / 1e6:.1f} million tokens) in every arm."
            " The control is ordinary training: all layers from the first step, no early-exit"
            " loss, no layer dropout."
            + (
                " `ungrown` is the recipe with all layers from the first step."
                * ("ungrown" in arms)
            )
        ),
        "exits": exits,
        "arms": arms,
        "verdict": verdict(arms["control"], arms["recipe"], exits[0]) if "recipe" in arms else "",
        "train_s": {arm: report["train_s"] for arm, report in reports.items()},
        "configs": {arm: report["config"] for arm, report in reports.items()},
        "machine": asdict(describe_machine()),
    }


def verdict(control: Scores, recipe: Scores, exit_layer: int) -> str:
    """Agreement as a ratio and last-layer loss as a difference, mean over the texts."""
    before = mean([scores["agreement"][exit_layer - 1] for scores in control.values()])
    after = mean([scores["agreement"][exit_layer - 1] for scores in recipe.values()])
    losses = [mean([s["cross_entropy"][-1] for s in arm.values()]) for arm in (control, recipe)]
    return (
        f"Mean over the texts: at exit {exit_layer} of"
        f" {len(next(iter(control.values()))['agreement'])} layers agreement is"
        f" {after:.2f} with the recipe and {before:.2f} without, {after / before:.1f} times as"
        f" much; the last layer's loss is {losses[1]:.3f} against {losses[0]:.3f}"
        f" ({losses[1] / losses[0] - 1:+.1%})."
    )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def text_table(result: Mapping[str, Any]) -> str:
    """Agreement by arm, text and exit, and the last layer's loss."""
    lines = []
    for arm, scores in result["arms"].items():
        for text, score in scores.items():
            shares = " ".join(f"{share:.2f}" for share in score["agreement"][:-1])
            lines.append(f"{arm:>8} {text:>9}  {shares}  loss {score['cross_entropy'][-1]:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
