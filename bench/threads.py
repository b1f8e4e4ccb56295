"""What fitting compute threads to each pass is worth: a bundled model and synthetic ones.

    python -m bench.threads [--params 20M,126M] [--repeats 5] [--limit 8]

Drives `shortstack bench synth` and `shortstack bench threads` as a user would and writes
bench/results/threads-MODEL-MACHINE.json. Run it on a machine that does nothing else.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.decode import BUNDLED, RESULTS, machine_slug, shortstack, write_prompts
from bench.subject import PROMPTS

# The exit and the length of the draft: of the bundled model, and what synthetic ones are made for.
BUNDLED_DRAFT, SYNTHETIC_DRAFT = (3, 8), (2, 4)


def main(arguments: Sequence[str]) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--params", default="", help="sizes of synthetic models, by comma")
    options, others = parser.parse_known_args(arguments)
    measure(BUNDLED, PROMPTS, BUNDLED_DRAFT, others)
    for params in filter(None, options.params.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            model, prompts = Path(folder) / f"synthetic-{params}", Path(folder) / "prompts.jsonl"
            wish = ("--params", params, "--at-layer", SYNTHETIC_DRAFT[0])
            shortstack("bench", "synth", *wish, "--out", model)
            write_prompts(prompts, model)
            measure(model, prompts, SYNTHETIC_DRAFT, others)


def measure(model: Path, prompts: Path, draft: tuple[int, int], others: Sequence[str]) -> None:
    """Measure one model and keep the result."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "result.json"
        words = ("--exit-layer", draft[0], "--draft-len", draft[1], "--out", made)
        shortstack("bench", "threads", "--model", model, "--prompts", prompts, *words, *others)
        text = made.read_text(encoding="utf-8")
    out = RESULTS / f"threads-{model.name}-{machine_slug(json.loads(text)['machine'])}.json"
    out.write_text(text, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
