"""What came of a run of adapters, as a table while it trains and as a card when it has ended.

Every number of the card comes from the run's report.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from shared.model.draft_adapter_file import FOLDER
from training.card import table
from training.kangaroo.scores import AdapterScores

SHOWN = {
    "agreement": "greedy",
    "sampled_agreement": "sampled",
    "overlap": "sum min(p, q)",
    "cross_entropy": "cross-entropy",
}
"""Scores by name, and their headings."""


def scores_table(scores: Mapping[str, AdapterScores], title: str) -> Table:
    """Adapters beside the raw exits at the same layers."""
    shown = Table(title=f"{title}: agreement with the last layer", title_justify="left")
    shown.add_column("text")
    for heading in ("exit", "adapter", "raw", "sampled", "raw", "cross-entropy", "raw"):
        shown.add_column(heading, justify="right")
    for name, text in scores.items():
        for exit_layer, one in text.adapters.items():
            raw = text.raw[exit_layer]
            shown.add_row(
                name,
                str(exit_layer),
                *(f"{each:.3f}" for each in (one.agreement, raw.agreement)),
                *(f"{each:.3f}" for each in (one.sampled_agreement, raw.sampled_agreement)),
                *(f"{each:.3f}" for each in (one.cross_entropy, raw.cross_entropy)),
            )
    return shown


def write_card(out: Path) -> Path:
    """Write OUT/draft_adapters/README.md from OUT/report.json; return its path."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    path = out / FOLDER / "README.md"
    path.write_text(card_text(report) + "\n", encoding="utf-8")
    return path


def card_text(report: Mapping[str, Any]) -> str:
    """The text of the card."""
    config = report["config"]
    words = config["card"]
    exits = ", ".join(map(str, report["exits"]))
    shares = ", ".join(f"{each['name']} {each['share']:.0%}" for each in config["data"]["sources"])
    num_parameters = next(iter(report["num_parameters"].values()))
    parts = [
        f"# {words['title'] or config['name']}",
        f"Draft adapters (Kangaroo, arXiv:2404.18911) at exit layers {exits} of"
        f" {config['model']['path']}, {num_parameters:,} weights each. The model itself was not"
        " changed; its own head reads the adapters. They decide the speed of a text and never the"
        " text.",
        f"Trained for {report['num_steps']:,} steps, {report['num_tokens'] / 1e6:.1f} million"
        f" tokens, {report['train_s'] / 60:.0f} minutes, from"
        f" `start: {config['draft_adapters']['start']}`, on rows of: {shares}. Trainer settings:"
        f" `{json.dumps(config['trainer'], sort_keys=True)}`, seed {config['seed']}.",
        "On held-out text, teacher-forced, against the model's last layer; the raw exit at the same"
        " layer and the adapter before its training beside it:",
        _scores(report),
    ]
    if words["notes"]:
        parts.append(words["notes"].strip())
    return "\n\n".join(parts)


def _scores(report: Mapping[str, Any]) -> str:
    rows = [
        [name, str(exit_layer), who, *(f"{scores[each]:.3f}" for each in SHOWN)]
        for name, text in report["scores"].items()
        for exit_layer in map(str, report["exits"])
        for who, scores in (
            ("adapter", text["adapters"][exit_layer]),
            ("raw exit", text["raw"][exit_layer]),
            ("untrained", report["untrained"][name]["adapters"][exit_layer]),
        )
    ]
    return table(["text", "exit", "read", *SHOWN.values()], rows)
