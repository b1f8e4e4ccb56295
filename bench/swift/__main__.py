"""The command: reads options, measures, writes. See the package for what."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer

from bench import swift
from bench.decode import RESULTS, absolute, machine_slug
from bench.swift.figures import run, run_combs
from bench.swift.texts import Bench
from shared.telemetry.machine import describe_machine

PROMPTS = [
    "Once upon a time, there was a little girl named Lily. She",
    "Tom and Ben went to the park. They saw",
    "One day, a small dog found a big red ball. He",
    "Mia had a toy boat. She put it in the water and",
    "The sun was hot and the bird was thirsty. It",
    "Sam wanted to bake a cake with his mom. They",
]


def main(arguments: list[str]) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        "bench.swift", description=(swift.__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--model", type=Path, default=Path("models/shortstack-10m"))
    parser.add_argument(
        "--prompt", action="append", help="may be given again; even numbers of them"
    )
    parser.add_argument("--tokens", type=int, default=224, help="of each text")
    parser.add_argument("--share", type=float, default=0.02, help="of the time, for the search")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--combs", action="store_true", help="combs alone, without any time")
    parser.add_argument("--out", type=absolute)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    prompts = options.prompt or PROMPTS
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    bench = Bench(options.model, [tokenizer.encode(each).ids for each in prompts], options.tokens)
    machine = asdict(describe_machine())
    found = run_combs(bench) if options.combs else run(bench, options.share)
    figures = {"model": options.model.name, "machine": machine} | found
    name = f"swift{'-combs' * options.combs}-{options.model.name}-{machine_slug(machine)}"
    out = options.out or RESULTS / f"{name}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
