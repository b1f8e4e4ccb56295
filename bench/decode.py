"""The decode speeds that the README quotes.

    python -m bench.decode synthetic                     126M parameters, agreement .8 at layer 2
    python -m bench.decode bundled --prompts FILE …      the bundled model, one file per kind

Drives `shortstack bench synth` and `shortstack bench decode` as a user would, prints a table and
writes bench/results/decode-NAME-MACHINE.json. Run it on a machine that does nothing else; the load
average is kept with the result.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
RESULTS = REPO / "bench" / "results"
BUNDLED = REPO / "models" / "shortstack-10m"
NUM_SYNTHETIC_PROMPTS = 8
SYNTHETIC_PROMPT_LEN = 32

Result = dict[str, Any]


def main(arguments: list[str]) -> None:
    """Measure what was asked for."""
    options = parse(arguments)
    if options.what == "synthetic":
        results = {f"synthetic-{options.params}": measure_synthetic(options)}
    else:
        results = {f"bundled-{file.stem}": measure_file(file, options) for file in options.prompts}
    for name, result in results.items():
        print(f"{name}: {write_result(name, result)}")
    print(markdown_table(results))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    kinds = parser.add_subparsers(dest="what", required=True)
    synthetic = kinds.add_parser("synthetic", help="a random model made on the fly")
    synthetic.add_argument("--params", default="126M")
    synthetic.add_argument("--agreement", type=float, default=0.8)
    synthetic.add_argument("--at-layer", type=int, default=2)
    synthetic.add_argument("--draft-len", type=int, default=4)
    bundled = kinds.add_parser("bundled", help="a checkpoint, swept and measured per prompt file")
    bundled.add_argument("--model", type=absolute, default=BUNDLED)
    bundled.add_argument("--prompts", type=absolute, nargs="+", required=True)
    bundled.add_argument("--limit", type=int, default=8, help="prompts of each file")
    bundled.add_argument("--sweep-limit", type=int, default=3, help="prompts that a sweep uses")
    bundled.add_argument("--exits", default="2,3,4,6", help="exit layers of the sweep")
    bundled.add_argument("--draft-lens", default="2,3,4,6,8", help="draft lengths of the sweep")
    return parser.parse_args(arguments)


def absolute(text: str) -> Path:
    """Return a path that holds in any folder: commands run in the repository's."""
    return Path(text).resolve()


def measure_synthetic(options: argparse.Namespace) -> Result:
    """Make a model in a temporary folder and measure it at the exit that was damped for."""
    with tempfile.TemporaryDirectory() as folder:
        model, prompts = Path(folder) / f"synth-{options.params}", Path(folder) / "prompts.jsonl"
        wish = ("--params", options.params, "--agreement", options.agreement)
        shortstack("bench", "synth", *wish, "--at-layer", options.at_layer, "--out", model)
        write_prompts(prompts, model)
        setting = ("--exit-layer", options.at_layer, "--draft-len", options.draft_len)
        result = decode(model, prompts, options, *setting)
        return result | {"synthetic": json.loads((model / "synthetic.json").read_text())}


def write_prompts(file: Path, model: Path) -> None:
    """Write prompts of random words; below the first word's id are specials and bytes."""
    vocab_size = json.loads((model / "config.json").read_text())["vocab_size"]
    draw = random.Random(0)
    with file.open("w", encoding="utf-8") as lines:
        for index in range(NUM_SYNTHETIC_PROMPTS):
            ids = [draw.randrange(300, vocab_size) for _ in range(SYNTHETIC_PROMPT_LEN)]
            line = {"id": f"synthetic-{index}", "kind": "synthetic", "token_ids": ids}
            lines.write(json.dumps(line) + "\n")


def measure_file(file: Path, options: argparse.Namespace) -> Result:
    """Find the best static setting on a few prompts of a file, then measure it on more of them.

    The prompts of the sweep are among those measured; thresholds and lengths are so few that this
    does not fit the setting to them.
    """
    grid = ("--exits", options.exits, "--draft-lens", options.draft_lens)
    swept = decode(options.model, file, options, "--sweep", *grid, "--limit", options.sweep_limit)
    (best,) = swept["best_by_kind"].values()
    setting = (
        *("--exit-layer", best["exit_layer"]),
        *("--draft-len", best["draft_len"]),
        *("--stop-threshold", best["stop_threshold"]),
    )
    return decode(options.model, file, options, *setting, "--limit", options.limit)


def decode(model: Path, prompts: Path, options: argparse.Namespace, *more: object) -> Result:
    """Run `shortstack bench decode` and return its JSON."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        shortstack(
            *("bench", "decode", "--model", model, "--prompts", prompts, "--out", out),
            *("--max-new-tokens", options.max_new_tokens, "--repeats", options.repeats, *more),
        )
        result: Result = json.loads(out.read_text(encoding="utf-8"))
        return result


def shortstack(*words: object) -> None:
    """Run a command of the command line; its failure ends this script."""
    subprocess.run([sys.executable, "-m", "shortstack.cli", *map(str, words)], check=True, cwd=REPO)


def write_result(name: str, result: Result) -> Path:
    """Write a result under the name of its machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"decode-{name}-{machine_slug(result['machine'])}.json"
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return file


def machine_slug(machine: Result) -> str:
    """Return a machine's name as files have it."""
    text = f"{machine['cpu_model']}-{machine['num_cores']}c".lower()
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-")


COLUMNS = {
    "pipeline": "pipeline_tok_s",
    "fused": "fused_tok_s",
    "plain": "plain_tok_s",
    "transformers": "hf_tok_s",
    "its early exit": "hf_early_exit_tok_s",
    "over plain": "speedup_over_plain",
    "predicted": "predicted_speedup",
    "over transformers": "speedup_over_hf",
    "acceptance": "acceptance_rate",
    "emitted": "mean_emitted_len",
}


def markdown_table(results: dict[str, Result]) -> str:
    """Return the table of the README: tokens per second, first token to last, one session."""
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for name, result in results.items():
        cells = (cell(result.get(key)) for key in COLUMNS.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(value: float | None) -> str:
    """Return a number as the table shows it."""
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main(sys.argv[1:])
