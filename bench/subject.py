"""What scripts share that drive one command of the bench on the bundled model and its prompts."""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.decode import BUNDLED, REPO, RESULTS, absolute, machine_slug, shortstack

PROMPTS = REPO / "shortstack" / "prompts" / "demo.jsonl"


def measure_subject(name: str, description: str, arguments: Sequence[str]) -> None:
    """Measure, and keep the result; options not named here are those of `shortstack bench NAME`."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--model", type=absolute, default=BUNDLED)
    parser.add_argument("--prompts", type=absolute, default=PROMPTS)
    parser.add_argument("--out", type=absolute)
    options, others = parser.parse_known_args(arguments)
    subject = ("--model", options.model, "--prompts", options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "result.json"
        shortstack("bench", name, *subject, "--out", made, *others)
        slug = machine_slug(json.loads(made.read_text(encoding="utf-8"))["machine"])
        out = options.out or RESULTS / f"{name}-{options.model.name}-{slug}.json"
        shutil.copyfile(made, out)
    print(out)
