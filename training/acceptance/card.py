"""What came of a run of acceptance heads, as a table while it trains and as a card at its end.

Every number of the card comes from the run's report.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from shared.model.acceptance_head_file import FOLDER
from training.acceptance.scores import ALL, FORECASTS, TextForecasts
from training.card import table

NAMES = {"head": "head", "gap": "gap alone", "probability": "probability"}
"""Ways to tell acceptance, and what tables call them."""


def scores_table(scores: Mapping[str, TextForecasts], title: str) -> Table:
    """Every exit over all texts: the head beside what is known without it."""
    shown = Table(title=f"{title}: acceptance told in advance, {ALL}", title_justify="left")
    for heading in ("choice", "exit", "agreement"):
        shown.add_column(heading, justify="left" if heading == "choice" else "right")
    for score in ("loss", "AUC"):
        for name in FORECASTS:
            shown.add_column(f"{score} {NAMES[name]}", justify="right")
    for mood, exits in scores[ALL].items():
        for each, found in exits.items():
            told = [found.forecasts[name] for name in FORECASTS]
            cells = [found.agreement, *(one.loss for one in told), *(one.auc for one in told)]
            shown.add_row(mood, str(each), *(f"{cell:.3f}" for cell in cells))
    return shown


def write_card(out: Path) -> Path:
    """Write OUT/acceptance_heads/README.md from OUT/report.json; return its path."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    path = out / FOLDER / "README.md"
    path.write_text(card_text(report) + "\n", encoding="utf-8")
    return path


def card_text(report: Mapping[str, Any]) -> str:
    """The text of the card."""
    config, scores = report["config"], report["scores"]
    words, section = config["card"], config["acceptance"]
    exits = ", ".join(map(str, report["exits"]))
    shares = ", ".join(f"{each['name']} {each['share']:.0%}" for each in config["data"]["sources"])
    epoch_steps = section["epoch_steps"]
    again = f", the same rows again after {epoch_steps:,} steps" if epoch_steps else ""
    parts = [
        f"# {words['title'] or config['name']}",
        f"Acceptance heads of {config['model']['path']} at exit layers {exits}, width"
        f" {section['width']}, {report['num_parameters']:,} weights each, stored as"
        f" {section['store_dtype']}. They tell how likely the full model is to agree with what an"
        " exit chose. The model itself was not changed; heads decide how long drafts are and never"
        " the text.",
        f"Trained for {report['num_steps']:,} steps, {report['num_tokens'] / 1e6:.1f} million"
        f" tokens{again}, {report['train_s'] / 60:.0f} minutes, on rows of: {shares};"
        f" {section['own_share']:.0%} of the rows were written on by the model itself. Trainer"
        f" settings: `{json.dumps(config['trainer'], sort_keys=True)}`, seed {config['seed']}.",
        "On held-out text, the heads as they are stored. `-own`: the model itself wrote on."
        " Greedy, and sampled under one noise at temperatures from"
        f" {section['min_temperature']:g} to {section['max_temperature']:g}.",
        "Binary cross-entropy, nats (`gap alone`: what drafts go by without a head):",
        _by_exit(scores, report["exits"], "loss"),
        "Area under the ROC curve:",
        _by_exit(scores, report["exits"], "auc"),
        f"Calibration of the heads over {ALL}, in ten equal parts by chance: told / seen.",
        _calibration(scores[ALL]),
    ]
    if words["notes"]:
        parts.append(words["notes"].strip())
    return "\n\n".join(parts)


def _by_exit(scores: Mapping[str, Any], exits: list[int], score: str) -> str:
    rows = [
        [text, mood, NAMES[name]]
        + [f"{found[str(each)]['forecasts'][name][score]:.3f}" for each in exits]
        for text, moods in scores.items()
        for mood, found in moods.items()
        for name in FORECASTS
    ]
    return table(["text", "choice", "told by", *(f"E {each}" for each in exits)], rows)


def _calibration(moods: Mapping[str, Any]) -> str:
    rows = [
        [mood, f"E {each}"]
        + [f"{told:.2f} / {seen:.2f}" for told, seen in found["forecasts"]["head"]["calibration"]]
        for mood, exits in moods.items()
        for each, found in exits.items()
    ]
    num_parts = max(len(row) for row in rows) - 2
    return table(["choice", "exit", *map(str, range(1, num_parts + 1))], rows)
