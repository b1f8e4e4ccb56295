"""What a draft vocabulary saves of a draft step, on a random model with a big vocabulary.

    python -m bench.draft_vocab [--threads N] [--out FILE]

8 layers, hidden 512, 65,536 tokens: the head weighs more than ten layers. Drives `shortstack bench
draft-vocab` as a user would and writes bench/results/draft-vocab-MACHINE.json. Steps with the whole
vocabulary and with parts of it take turns, so their ratio stands some load; the load average is
kept with the result.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from bench.decode import RESULTS, absolute, machine_slug, shortstack

MODEL = ("--layers", 8, "--hidden", 512, "--vocab-size", 65536, "--exit-layer", 2)
SIZES = (8192, 16384)


def main(arguments: list[str]) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--out", type=absolute)
    options = parser.parse_args(arguments)
    sizes = [word for size in SIZES for word in ("--size", size)]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "result.json"
        how = ("--runs", options.runs, "--num-threads", options.threads, "--out", made)
        shortstack("bench", "draft-vocab", *MODEL, *sizes, *how)
        slug = machine_slug(json.loads(made.read_text(encoding="utf-8"))["machine"])
        out = options.out or RESULTS / f"draft-vocab-{slug}.json"
        shutil.copyfile(made, out)
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
