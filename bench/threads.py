"""What it is worth to fit compute threads to each pass, through the gateway.

    python -m bench.threads [--model DIR] [--params 20M,126M] [--exit-layer 2] [--repeats 5]

Starts three stacks on the model: threads as each pass is worth (`ours`), one thread for all passes,
and all processors for all passes. Decodes the prompts on them in turn, plain and with a fixed
draft, and prints how many times faster ours is than either: median of pairs, with a 95 % interval.
With --params the same on synthetic models of these sizes, made on the fly. Writes
bench/results/threads-MODEL-MACHINE.json.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.decode import BUNDLED, RESULTS, absolute, machine_slug, shortstack, write_prompts
from bench.subject import PROMPTS
from shared.telemetry.machine import describe_machine
from shortstack.bench.open_bench import check_room
from shortstack.bench.paired import Interval, paired_interval
from shortstack.bench.prompts import BenchPrompt, read_bench_prompts, tokenizer_of
from shortstack.bench.runners import GatewayRunner, Work
from shortstack.bench.samples import Peer
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.request import PLAIN, Speculation, pinned
from shortstack.stack import Stack

OURS, ONE, ALL = "ours", "one", "all"


def main(arguments: list[str]) -> None:
    """Measure what was asked for."""
    options = parse(arguments)
    subjects = [] if options.params and options.model is None else [options.model or BUNDLED]
    with tempfile.TemporaryDirectory() as folder:
        for params in filter(None, options.params.split(",")):
            subjects.append(Path(folder) / f"synthetic-{params}")
            wish = ("--params", params, "--at-layer", options.exit_layer)
            shortstack("bench", "synth", *wish, "--out", subjects[-1])
        for model in subjects:
            prompts = options.prompts
            if model.parent == Path(folder):
                prompts = Path(folder) / "prompts.jsonl"
                write_prompts(prompts, model)
            report(
                model, read_bench_prompts([prompts], tokenizer_of(model), options.limit), options
            )


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=absolute, help="default: the bundled one")
    parser.add_argument("--prompts", type=absolute, default=PROMPTS)
    parser.add_argument("--params", default="", help="sizes of synthetic models, with commas")
    parser.add_argument("--limit", type=int, default=8, help="prompts")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--exit-layer", type=int, default=2)
    parser.add_argument("--draft-len", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(arguments)


def report(model: Path, prompts: list[BenchPrompt], options: argparse.Namespace) -> None:
    """Measure one model, print a line per way of decoding and keep the result."""
    machine = asdict(describe_machine())
    speeds = asyncio.run(measure(model, prompts, options))
    shown: dict[str, Any] = {}
    for way, of_stacks in speeds.items():
        for other in (ONE, ALL):
            pairs = zip(of_stacks[OURS], of_stacks[other], strict=True)
            found = paired_interval([ours / theirs for ours, theirs in pairs])
            shown[f"{way}: ours / {other}"] = asdict(found)
            print(f"{model.name:16} {way:6} ours / {other}: {shown_as(found)}", flush=True)
    result = {
        "model": model.name,
        "machine": machine,
        "max_new_tokens": options.max_new_tokens,
        "exit_layer": options.exit_layer,
        "draft_len": options.draft_len,
        "num_prompts": len(prompts),
        "repeats": options.repeats,
        "ratios": shown,
        "tok_s": speeds,
    }
    out = RESULTS / f"threads-{model.name}-{machine_slug(machine)}.json"
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(out)


def shown_as(found: Interval) -> str:
    """Return a ratio as text."""
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


async def measure(
    model: Path, prompts: list[BenchPrompt], options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Return decode speeds by way and stack, those of one turn at one place."""
    num_threads = {OURS: 0, ONE: 1, ALL: os.cpu_count() or 1}
    ways = {"plain": PLAIN, "draft": pinned(options.exit_layer, options.draft_len, 0.0)}
    async with AsyncExitStack() as contexts:
        clients = {}
        for name, number in num_threads.items():
            config = StackConfig(model=model, num_threads=number)
            stack = await contexts.enter_async_context(Stack(config))
            clients[name] = await contexts.enter_async_context(Client(stack.target))
        loaded = (await clients[OURS].models()).models[0]
        check_room(prompts, options.max_new_tokens, loaded.max_context_len)
        work = Work(options.max_new_tokens, tuple(loaded.eos_token_ids), ignore_eos=True)

        async def speed(name: str, way: Speculation, prompt: BenchPrompt) -> float:
            sample = await GatewayRunner(Peer.PIPELINE, clients[name], work, way).run(prompt)
            assert sample.decode_tok_s is not None, "all tokens came at once"
            return sample.decode_tok_s

        speeds: dict[str, dict[str, list[float]]] = {way: {n: [] for n in clients} for way in ways}
        turns = [
            (way, prompt) for _ in range(options.repeats + 1) for prompt in prompts for way in ways
        ]
        for index, (way, prompt) in enumerate(turns):
            names = list(clients)
            first = index // len(ways) % len(names)
            for name in names[first:] + names[:first]:
                found = await speed(name, ways[way], prompt)
                # The first time around warms up.
                if index >= len(prompts) * len(ways):
                    speeds[way][name].append(found)
    return speeds


if __name__ == "__main__":
    main(sys.argv[1:])
