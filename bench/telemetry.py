"""What tracing costs: tokens per second through the gateway, with and without it.

    python -m bench.telemetry [--clients 1,4] [--with NAME=VALUE ...]

Drives `shortstack bench telemetry` as a user would, on the bundled model and the demo's prompts,
and writes bench/results/telemetry-MODEL-MACHINE.json. Stacks with and without traces take turns, so
their ratio stands some load; the load average is kept with the result.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.decode import BUNDLED, REPO, RESULTS, absolute, machine_slug, shortstack

PROMPTS = REPO / "shortstack" / "prompts" / "demo.jsonl"


def main(arguments: Sequence[str]) -> None:
    """Measure and write; options not named here are those of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=absolute, default=BUNDLED)
    parser.add_argument("--prompts", type=absolute, default=PROMPTS)
    parser.add_argument("--out", type=absolute)
    options, others = parser.parse_known_args(arguments)
    subject = ("--model", options.model, "--prompts", options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "result.json"
        shortstack("bench", "telemetry", *subject, "--out", made, *others)
        slug = machine_slug(json.loads(made.read_text(encoding="utf-8"))["machine"])
        out = options.out or RESULTS / f"telemetry-{options.model.name}-{slug}.json"
        shutil.copyfile(made, out)
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
