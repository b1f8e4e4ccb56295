"""What tracing costs: tokens per second through the gateway, with and without it.

    python -m bench.telemetry [--prompts FILE] [--clients 1,4] [--with NAME=VALUE ...]

Three stacks are up at once and take turns at every load, first one, then another leading: one that
does not trace, one at the default sampling ratio, one that traces everything. Spans go to a receiver
in this process, so its work is in the figures too. `--with` sets further SHORTSTACK_ variables on the
stacks that trace, to measure other telemetry together with it. Writes
bench/results/telemetry-MODEL-MACHINE.json; the load average is kept with the result.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from bench.decode import BUNDLED, REPO, RESULTS, absolute, machine_slug
from shared.ids import new_request_id
from shared.settings import TelemetrySettings
from shared.telemetry.machine import describe_machine
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request
from shortstack.stack import Stack
from shortstack.traces.receiver import ReceivedSpan, SpanReceiver

DEMO_PROMPTS = REPO / "shortstack" / "prompts" / "demo.jsonl"
OFF, DEFAULT, ALL = "off", "default", "all"


@dataclass(frozen=True, slots=True)
class Turn:
    """One stack's go at one load."""

    mode: str
    num_clients: int
    num_tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """Over all clients."""
        return self.num_tokens / self.elapsed_s


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, keep the figures."""
    options = parse(arguments)
    result = asyncio.run(measure(options))
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"telemetry-{options.model.name}-{machine_slug(result['machine'])}.json"
    out = options.out or RESULTS / name
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    print(out)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=absolute, default=BUNDLED)
    parser.add_argument("--prompts", type=absolute, default=DEMO_PROMPTS)
    parser.add_argument("--clients", default="1,4", help="numbers of clients, by comma")
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=12, help="turns of each stack at each load")
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=absolute)
    return parser.parse_args(arguments)


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the stacks take turns; return all figures."""
    lines = options.prompts.read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines if line.strip()]
    machine, num_spans = asdict(describe_machine()), [0]
    turns: list[Turn] = []

    def count(spans: list[ReceivedSpan]) -> None:
        num_spans[0] += len(spans)

    async with SpanReceiver("127.0.0.1:0", count) as receiver:
        async with clients_of(options, receiver.address) as clients:
            for num_clients in map(int, options.clients.split(",")):
                requests = requests_of(prompts, num_clients, options.max_new_tokens)
                for client in clients.values():
                    await run(client, requests)
                for repeat in range(options.repeats):
                    for mode in rotated(list(clients), repeat):
                        taken = await run(clients[mode], requests)
                        turns.append(Turn(mode, num_clients, *taken))
    return {
        "machine": machine,
        "model": options.model.name,
        "num_prompts": len(prompts),
        "max_new_tokens": options.max_new_tokens,
        "repeats": options.repeats,
        "default_ratio": TelemetrySettings().sampling_ratio,
        "with": options.more,
        "num_spans": num_spans[0],
        "loads": figures(turns),
        "turns": [asdict(turn) for turn in turns],
    }


@asynccontextmanager
async def clients_of(options: argparse.Namespace, endpoint: str) -> AsyncIterator[dict[str, Client]]:
    """Bring a stack up for each mode; yield a client of each."""
    plain = StackConfig(model=options.model)
    more = dict(each.split("=", 1) for each in options.more)
    traced = replace(plain, otlp=endpoint, environ=more)
    configs = {OFF: plain, DEFAULT: traced, ALL: replace(traced, sampling_ratio=1.0)}
    async with AsyncExitStack() as stack:
        clients = {}
        for mode, config in configs.items():
            running = await stack.enter_async_context(Stack(config))
            clients[mode] = await stack.enter_async_context(Client(running.target))
        yield clients


def requests_of(prompts: Sequence[str], num_clients: int, max_new_tokens: int) -> list[Request]:
    """Return as many requests as there are clients, of prompts in turn; at least every prompt."""
    limits = Limits(max_new_tokens, ignore_eos=True)
    num = max(num_clients, len(prompts))
    return [Request(prompts[index % len(prompts)], limits=limits) for index in range(num)]


async def run(client: Client, requests: Sequence[Request]) -> tuple[int, float]:
    """Run all requests with as many at a time as there are; return tokens and seconds."""
    started_s = time.perf_counter()
    completions = [
        await client.complete(replace(request, request_id=new_request_id()))
        for request in requests
    ]
    elapsed_s = time.perf_counter() - started_s
    return sum(len(each.token_ids) for each in completions), elapsed_s


def rotated(modes: list[str], turn: int) -> list[str]:
    """Return the modes, another one first at every turn."""
    first = turn % len(modes)
    return [*modes[first:], *modes[:first]]


def figures(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return speeds and ratios by load: medians over turns, each ratio within its own turn."""
    return []


def table(result: dict[str, Any]) -> str:
    """Return the table."""
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
