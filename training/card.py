"""The model card of a run: sources and licences, how it was trained, how good each exit is.

Every number comes from the log of the run, from the scores of `training.evaluate`, or from the
stored weights. Knows nothing of models.

    python -m training.card --model DIR --run DIR --scores FILE [--machine TEXT]

writes DIR/README.md of the model directory.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import TrainingError, run_command

SOURCES = """\
| kind | share of tokens | source | licence |
|---|---|---|---|
| dialogue | 30 % | Schema-Guided Dialogue (DSTC8), Rastogi et al. 2020 | CC-BY-SA 4.0 |
| math | 20 % | GSM8K training set, Cobbe et al. 2021 | MIT |
| code | 30 % | the standard library of Python, without its tests | PSF |
| stories | 20 % | children's novels from Project Gutenberg | public domain in the US |
"""

LIMITS = """\
This is a model for trying out self-speculative decoding on a laptop, far too small and too
shortly trained for anything else. It has the form of its four kinds of text and little of their
sense: dialogues read like talk with a booking service but soon forget what was asked, sums
have the layout of sums, code and stories hold together for a line or two. Greedy decoding soon
repeats itself. The model follows no instructions and speaks English only. It may repeat or invent
names and telephone numbers, and the stories carry the views of their time. Its context is 1,024
tokens.

The dialogues of the corpus have no end of turn: a chat reply is over where the model writes
`\\nUser:`, so clients should pass that as a stop string."""


@dataclass(frozen=True)
class RunRecord:
    """What the log of a run says: its last start, the training losses, the end.

    Attributes:
        changes: step and former number of steps wherever a resumed run changed the latter.
    """

    settings: Mapping[str, Any]
    num_parameters: int
    share: Mapping[str, float]
    num_steps: int
    num_tokens: int
    elapsed_s: float
    final_losses: Mapping[int, float]
    rounding_errors: Mapping[str, float]
    changes: Sequence[tuple[int, int]]


def read_run(path: Path) -> RunRecord:
    """Read OUT/log.jsonl.

    Raises:
        TrainingError: there is no log, or the run has not come to its end.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist; name the directory of the run with --run")
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        by_event = {line["event"]: line for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no log of training.train: {error}") from error
    if "start" not in by_event or "end" not in by_event:
        raise TrainingError(f"{path} has no end: finish the run with --resume")
    start, end = by_event["start"], by_event["end"]
    if end["step"] != start["settings"]["num_steps"]:
        raise TrainingError(f"the run stopped at step {end['step']}; finish it with --resume")
    return RunRecord(
        start["settings"],
        start["num_parameters"],
        start["last_layer_loss_share"],
        end["step"],
        end["num_tokens"],
        end["elapsed_s"],
        mean_losses([line for line in lines if line["event"] == "step"][-100:]),
        end["rounding_errors"],
        changed_steps([line for line in lines if line["event"] == "start"]),
    )


def changed_steps(starts: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Where a resumed run got another number of steps, and the number that it had before."""
    num_steps = [start["settings"]["num_steps"] for start in starts]
    return [
        (starts[index]["step"], num_steps[index - 1])
        for index in range(1, len(starts))
        if num_steps[index] != num_steps[index - 1]
    ]


def mean_losses(steps: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Mean training loss of every exit over the steps that had it in their loss."""
    found: dict[int, list[float]] = {}
    for step in steps:
        for exit_layer, loss in step["loss_by_exit"].items():
            found.setdefault(int(exit_layer), []).append(loss)
    return {exit_layer: sum(found[exit_layer]) / len(found[exit_layer]) for exit_layer in found}


def agreement_table(scores: Mapping[str, Mapping[str, Any]], exits: Sequence[int]) -> str:
    """Agreement by kind and exit; L itself always agrees, so it is left out."""
    return table(
        ["kind", *(f"E {exit_layer}" for exit_layer in exits)],
        [
            [kind, *(f"{score['agreement'][exit_layer - 1]:.2f}" for exit_layer in exits)]
            for kind, score in scores.items()
        ],
    )


def cross_entropy_table(scores: Mapping[str, Mapping[str, Any]], exits: Sequence[int]) -> str:
    """Held-out cross-entropy by kind and exit."""
    return table(
        ["kind", *(f"E {exit_layer}" for exit_layer in exits)],
        [
            [kind, *(f"{score['cross_entropy'][exit_layer - 1]:.2f}" for exit_layer in exits)]
            for kind, score in scores.items()
        ],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_card(
    model: Path, record: RunRecord, scores: Mapping[str, Mapping[str, Any]], machine: str
) -> str:
    """The text of the card."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    num_layers = config["num_hidden_layers"]
    exits = list(range(1, num_layers + 1))
    return "\n\n".join(
        [
            _front_matter(),
            f"# {model.resolve().name}",
            _what(config, record, model),
            "## How it was trained",
            _how(record, machine),
            "## How good the exits are",
            _exits_text(next(iter(scores.values()))["num_tokens"]),
            agreement_table(scores, exits[:-1]),
            "Cross-entropy on the same text, nats per token:",
            cross_entropy_table(scores, exits),
            "Mean training loss over the last 100 steps, nats per token: " + _losses(record) + ".",
            "## Sources",
            SOURCES.strip(),
            "The texts themselves are not part of the project. Documents are joined by"
            " `<|endoftext|>`; one library file in twenty, chosen by a hash of its path, was held"
            " out, and the other kinds have their own validation texts.",
            "## Limits",
            LIMITS,
        ]
    )


def _front_matter() -> str:
    return (
        "---\nlicense: cc-by-sa-4.0\nlanguage: en\nlibrary_name: transformers\n"
        "pipeline_tag: text-generation\ntags: [layerskip, self-speculative-decoding]\n---"
    )


def _what(config: Mapping[str, Any], record: RunRecord, model: Path) -> str:
    size_mb = (model / "model.safetensors").stat().st_size / 1e6
    return (
        f"A Llama of {record.num_parameters / 1e6:.1f} million parameters whose shallow layers can"
        " draft for the whole of it (LayerSkip, Elhoushi et al. 2024, arXiv:2404.16710)."
        f" {config['num_hidden_layers']} layers, hidden {config['hidden_size']}, feed-forward"
        f" {config['intermediate_size']}, {config['num_attention_heads']} query and"
        f" {config['num_key_value_heads']} key/value heads of {config['head_dim']}, tied"
        f" embeddings, {config['vocab_size']} byte-level BPE tokens with single digits. The weights"
        f" are stored as {config['dtype']} ({size_mb:.0f} MB); rounding moves"
        f" them by {_rounding(record)} (root mean square, relative)."
    )


def _rounding(record: RunRecord) -> str:
    errors = record.rounding_errors.items()
    return ", ".join(f"{error:.3%} in {dtype}" for dtype, error in errors if error > 0)


def _how(record: RunRecord, machine: str) -> str:
    recipe, plan, share = record.settings["recipe"], record.settings["plan"], record.share
    where = f" on {machine}" if machine else ""
    command = f"python -m training.train --data DIR --out DIR --steps {record.num_steps}"
    return f"```\n{command}\n```\n\n" + (
        f"{record.num_steps:,} steps, {record.num_tokens / 1e6:.1f} million tokens,"
        f" {record.elapsed_s / 60:.0f} minutes of steps{where}, float32, from scratch. Rows of"
        f" {plan['short_len']} tokens in most steps, of {plan['long_len']} in"
        f" {plan['long_share']:.0%} of them. AdamW, peak learning rate"
        f" {record.settings['peak_learning_rate']:g}, warm-up, stable, linear decay over the last"
        f" {record.settings['decay']:.0%}. Layer dropout with p_max {recipe['p_max']:g}, rising"
        f" with depth and time; early-exit loss with e_scale {recipe['e_scale']:g} and a"
        f" {recipe['curriculum']} curriculum of {recipe['rotation']}. Share of the loss on the"
        f" last layer: {share['mean']:.0%} ({share['min']:.0%} to {share['max']:.0%})."
        + "".join(_change_text(step, before) for step, before in record.changes)
    )


def _change_text(step: int, before: int) -> str:
    return (
        f" Up to step {step:,} the plan was {before:,} steps, and dropout rose by that plan; then"
        " the decay was moved."
    )


def _exits_text(num_tokens: int) -> str:
    return (
        "Share of positions where the greedy token of exit E (the first E layers, then the final"
        " norm and head) is that of the last layer: teacher-forced, on held-out text, about"
        f" {num_tokens:,} tokens of each kind, from the stored weights taken to float32"
        " (`python -m training.evaluate --model DIR --data DIR`). Exit 1 gets no loss of its own"
        " in this recipe."
    )


def _losses(record: RunRecord) -> str:
    losses = sorted(record.final_losses.items())
    return ", ".join(f"exit {exit_layer} {loss:.2f}" for exit_layer, loss in losses)


def read_scores(path: Path) -> dict[str, dict[str, Any]]:
    """Read the JSON that `training.evaluate --json` wrote."""
    try:
        scores: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        fine = all({"agreement", "cross_entropy", "num_tokens"} <= set(s) for s in scores.values())
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise TrainingError(f"cannot read scores {path}: {error}") from error
    if not scores or not fine:
        raise TrainingError(f"{path} holds no scores; write it with training.evaluate --json")
    return scores


def main() -> None:
    """Read the arguments and write the card."""
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--run", type=Path, required=True, help="directory of the run")
    parser.add_argument("--scores", type=Path, required=True, help="JSON of training.evaluate")
    parser.add_argument("--machine", default="", help="what it was trained on, in words")
    args = parser.parse_args()
    if not (args.model / "config.json").exists():
        raise TrainingError(f"{args.model} is no model directory: it has no config.json")
    record, scores = read_run(args.run / "log.jsonl"), read_scores(args.scores)
    text = write_card(args.model, record, scores, args.machine)
    (args.model / "README.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
