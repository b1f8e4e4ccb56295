"""The model card of a run: how it was trained, how good each exit is, what it cost the last layer.

Every number comes from the run's report.json, from the stored weights' size, or from the JSON of
bench.exit_training. Sources, licence and limits are the words of the configuration's section
`card`. Knows nothing of models.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import TrainingError


def write_card(run: Path, comparison: Path | None = None, machine: str = "") -> Path:
    """Write OUT/model/README.md and return its path.

    Raises:
        TrainingError: the run has no report or model, or a file cannot be read.
    """
    report = _read_json(run / "report.json", "finish the run first")
    model = run / "model"
    config = _read_json(model / "config.json", "finish the run first")
    compared = _read_json(comparison, "write it with bench.exit_training") if comparison else None
    size_mb = sum(path.stat().st_size for path in model.glob("*.safetensors")) / 1e6
    path = model / "README.md"
    text = card_text(report, config, size_mb, compared, machine)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def _read_json(path: Path, mend: str) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"cannot read {path}: {error}; {mend}") from error
    return values


def card_text(
    report: Mapping[str, Any],
    config: Mapping[str, Any],
    size_mb: float,
    comparison: Mapping[str, Any] | None = None,
    machine: str = "",
) -> str:
    """The text of the card."""
    words = report["config"]["card"]
    parts = [
        _front_matter(words),
        f"# {words['title'] or report['config']['name']}",
        _what(report, config, size_mb),
        "## How it was trained",
        _how(report, machine),
        "## How good the exits are",
        _exits(report["scores"]),
    ]
    if report["config"].get("exit_adapters"):
        parts += ["## The same exits without adapters", _raw_exits(report["base_scores"])]
    if comparison is not None:
        parts += ["## With and without the recipe", comparison_text(comparison)]
    if report["quality"] is not None:
        parts += ["## What it cost the last layer", _quality(report["quality"])]
    if words["notes"]:
        parts.append(words["notes"].strip())
    return "\n\n".join(parts)


def _front_matter(words: Mapping[str, Any]) -> str:
    licence = f"license: {words['licence']}\n" if words["licence"] else ""
    tags = "tags: [layerskip, self-speculative-decoding]"
    return f"---\n{licence}library_name: transformers\npipeline_tag: text-generation\n{tags}\n---"


def _what(report: Mapping[str, Any], config: Mapping[str, Any], size_mb: float) -> str:
    return (
        f"A {config['model_type']} model of {report['num_parameters'] / 1e6:.1f} million parameters"
        " whose shallow layers can draft for the whole of it (LayerSkip, Elhoushi et al. 2024,"
        f" arXiv:2404.16710). {config['num_hidden_layers']} layers, hidden"
        f" {config['hidden_size']}, feed-forward {config['intermediate_size']},"
        f" {config['num_attention_heads']} query and {config['num_key_value_heads']} key/value"
        f" heads, {config['vocab_size']:,} tokens, {config['max_position_embeddings']:,}"
        f" positions. The weights are stored as {_store_dtype(report, config)} ({size_mb:.0f} MB)."
    )


def _store_dtype(report: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if report["config"].get("exit_adapters"):  # the weights are a copy
        return str(config.get("dtype") or config.get("torch_dtype") or "they were")
    return str(report["config"]["model"]["store_dtype"])


def _how(report: Mapping[str, Any], machine: str) -> str:
    config, data = report["config"], report["config"]["data"]
    where = f" on {machine}" if machine else ""
    origin = f"from {config['model']['path']}" if config["model"]["path"] else "from scratch"
    shares = ", ".join(f"{source['name']} {source['share']:.0%}" for source in data["sources"])
    text = (
        f"{report['num_steps']:,} steps, {report['num_tokens'] / 1e6:.1f} million tokens,"
        f" {report['train_s'] / 60:.0f} minutes{where}, {origin}. Rows by source: {shares}."
    )
    text += _adapters(config) if config.get("exit_adapters") else _recipe(report)
    settings = json.dumps(config["trainer"], sort_keys=True)
    return f"{text}\n\nTrainer settings: `{settings}`, seed {config['seed']}."


def _adapters(config: Mapping[str, Any]) -> str:
    recipe = config["recipe"]
    return (
        " No weight of the model was changed: beside it lie exit adapters of rank"
        f" {config['exit_adapters']['rank']}, low-rank maps that drafts read the exits through and"
        f" verification knows nothing of. {recipe['curriculum'].capitalize()} curriculum; exits are"
        f" distilled from the last layer, weight {recipe['exit_distillation']:g}."
    )


def _recipe(report: Mapping[str, Any]) -> str:
    config, share = report["config"], report["last_layer_loss_share"]
    recipe = config["recipe"]
    text = (
        f" Layer dropout with p_max {recipe['p_max']:g} ({recipe['dropout_scale']} in time);"
        f" early-exit loss with e_scale {recipe['e_scale']:g} and a {recipe['curriculum']}"
        f" curriculum of {recipe['rotation']}; share of the loss on the last layer"
        f" {share['mean']:.0%} ({share['min']:.0%} to {share['max']:.0%})."
    )
    if recipe["start_layers"]:
        text += (
            f" For the first {recipe['grow_at']:.0%} of the steps only {recipe['start_layers']}"
            " layers existed; the others then began as copies of them, writing"
            f" {recipe['grow_scale']:.0%} as strongly."
        )
    if recipe["exit_distillation"]:
        text += f" Exits are distilled from the last layer, weight {recipe['exit_distillation']:g}."
    if recipe["base_distillation"]:
        text += f" The last layer is held to the base, weight {recipe['base_distillation']:g}."
    if config["lora"]:
        text += f" Low-rank adapters of rank {config['lora']['rank']}, merged."
    return text


def _exits(scores: Mapping[str, Any]) -> str:
    first = next(iter(scores.values()))
    exits = range(1, len(first["agreement"]))
    sections = (
        "Share of positions where the token of exit E (the first E layers, then the final norm and"
        " head) is that of the last layer: teacher-forced, on held-out text, about"
        f" {first['num_tokens']:,} tokens of each source. Exit 1 gets no loss of its own in this"
        " recipe. Greedy:",
        exit_table(scores, "agreement", exits),
        "At temperature 1, both picks under the same noise, as they are served:",
        exit_table(scores, "sampled_agreement", exits),
        "Cross-entropy on the same text, nats per token:",
        exit_table(scores, "cross_entropy", range(1, len(first["agreement"]) + 1)),
    )
    return "\n\n".join(sections)


def _raw_exits(scores: Mapping[str, Any]) -> str:
    first = next(iter(scores.values()))
    exits = range(1, len(first["agreement"]))
    return f"Agreement, greedy, on the same text:\n\n{exit_table(scores, 'agreement', exits)}"


def exit_table(scores: Mapping[str, Any], name: str, exits: Sequence[int]) -> str:
    """A table of one score by source and exit."""
    return table(
        ["text", *(f"E {exit_layer}" for exit_layer in exits)],
        [
            [source, *(f"{score[name][exit_layer - 1]:.2f}" for exit_layer in exits)]
            for source, score in scores.items()
        ],
    )


def comparison_text(comparison: Mapping[str, Any]) -> str:
    """The arms of bench.exit_training, side by side: agreement at some exits, last-layer loss."""
    arms = comparison["arms"]
    exits = comparison["exits"]
    rows = [
        [
            source,
            arm,
            *(f"{scores[source]['agreement'][exit_layer - 1]:.2f}" for exit_layer in exits),
            f"{scores[source]['cross_entropy'][-1]:.3f}",
        ]
        for source in next(iter(arms.values()))
        for arm, scores in arms.items()
    ]
    head = [
        "text",
        "arm",
        *(f"agreement E {exit_layer}" for exit_layer in exits),
        "last-layer loss",
    ]
    return f"{comparison['description']}\n\n{table(head, rows)}\n\n{comparison['verdict']}"


def _quality(quality: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{source['base_loss']:.3f}",
            f"{source['trained_loss']:.3f} ({source['loss_increase']:+.1%})",
            source["accuracy_of"],
            f"{source['base_accuracy']:.1%}",
            f"{source['trained_accuracy']:.1%}",
        ]
        for name, source in quality["sources"].items()
    ]
    head = ["text", "loss before", "after", "accuracy of", "before", "after"]
    warnings = "".join(f"\n\nWarning: {warning}." for warning in quality["warnings"])
    return table(head, rows) + warnings


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
