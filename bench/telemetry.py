"""What tracing costs: tokens per second through the gateway, with and without it.

    python -m bench.telemetry [--clients 1,4] [--with NAME=VALUE ...]

Three stacks are up at once and take turns, another one leading each time: one that does not trace,
one at the default sampling ratio, one that traces every request. Spans go to a receiver in this
process, so its work is in the figures too. All rounds have one pinned setting: what the stacks'
controllers learn would differ by more than what is measured. `--with` sets more SHORTSTACK_
variables on the stacks that trace, to measure other telemetry together with it. Writes
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
from statistics import median
from typing import Any

from bench.decode import BUNDLED, REPO, RESULTS, absolute, machine_slug
from shared.ids import new_request_id
from shared.settings import TelemetrySettings
from shared.telemetry.machine import describe_machine
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request, pinned
from shortstack.stack import Stack
from shortstack.traces.receiver import ReceivedSpan, SpanReceiver

PROMPTS = REPO / "shortstack" / "prompts" / "demo.jsonl"
OFF, DEFAULT, ALL = "off", "default", "all"


@dataclass(frozen=True, slots=True)
class Turn:
    """One stack's go: every client runs every prompt once."""

    mode: str
    num_clients: int
    index: int
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
    name = f"telemetry-{options.model.name}-{machine_slug(result['machine'])}.json"
    out = options.out or RESULTS / name
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result["loads"]))
    print(out)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=absolute, default=BUNDLED)
    parser.add_argument(
        "--prompts", type=absolute, default=PROMPTS, help="JSON lines with `prompt`"
    )
    parser.add_argument("--clients", default="1,4", help="numbers of clients, by comma")
    parser.add_argument("--exit-layer", type=int, default=3)
    parser.add_argument("--draft-len", type=int, default=6)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=12, help="turns of each stack at each load")
    parser.add_argument("--with", dest="more", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=absolute)
    options = parser.parse_args(arguments)
    if any("=" not in each for each in options.more):
        parser.error("--with takes NAME=VALUE")
    return options


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Let the stacks take turns; return all figures."""
    requests = read_requests(options)
    machine = asdict(describe_machine())
    spans: list[ReceivedSpan] = []
    turns: list[Turn] = []
    async with (
        SpanReceiver("127.0.0.1:0", spans.extend) as receiver,
        clients_of(options, receiver.address) as clients,
    ):
        for num_clients in map(int, options.clients.split(",")):
            for client in clients.values():
                await run(client, requests, num_clients)
            for index in range(options.repeats):
                for mode in rotated(list(clients), index):
                    taken = await run(clients[mode], requests, num_clients)
                    turns.append(Turn(mode, num_clients, index, *taken))
    return {
        "machine": machine,
        "model": options.model.name,
        "num_prompts": len(requests),
        "max_new_tokens": options.max_new_tokens,
        "exit_layer": options.exit_layer,
        "draft_len": options.draft_len,
        "repeats": options.repeats,
        "default_ratio": TelemetrySettings().sampling_ratio,
        "with": options.more,
        "num_spans_received": len(spans),
        "loads": loads_of(turns),
        "turns": [asdict(turn) for turn in turns],
    }


def read_requests(options: argparse.Namespace) -> list[Request]:
    """Return a request for every prompt; all answers are of one length."""
    lines = options.prompts.read_text(encoding="utf-8").splitlines()
    limits = Limits(options.max_new_tokens, ignore_eos=True)
    setting = pinned(options.exit_layer, options.draft_len)
    prompts = [json.loads(line)["prompt"] for line in lines if line.strip()]
    return [Request(prompt, limits=limits, speculation=setting) for prompt in prompts]


@asynccontextmanager
async def clients_of(
    options: argparse.Namespace, endpoint: str
) -> AsyncIterator[dict[str, Client]]:
    """Bring a stack up for each mode; yield a client of each."""
    plain = StackConfig(model=options.model)
    more = dict(each.split("=", 1) for each in options.more)
    traced = replace(plain, otlp=endpoint, environ=more)
    configs = {OFF: plain, DEFAULT: traced, ALL: replace(traced, sampling_ratio=1.0)}
    async with AsyncExitStack() as exits:
        clients = {}
        for mode, config in configs.items():
            stack = await exits.enter_async_context(Stack(config))
            clients[mode] = await exits.enter_async_context(Client(stack.target))
        yield clients


async def run(client: Client, requests: Sequence[Request], num_clients: int) -> tuple[int, float]:
    """Let so many clients run all requests, each beginning with another; tokens and seconds."""

    async def run_all(first: int) -> int:
        num_tokens = 0
        for index in range(len(requests)):
            request = requests[(first + index) % len(requests)]
            done = await client.complete(replace(request, request_id=new_request_id()))
            num_tokens += len(done.token_ids)
        return num_tokens

    started_s = time.perf_counter()
    counts = await asyncio.gather(*map(run_all, range(num_clients)))
    return sum(counts), time.perf_counter() - started_s


def rotated(modes: list[str], turn: int) -> list[str]:
    """Return the modes, another one first at every turn."""
    first = turn % len(modes)
    return [*modes[first:], *modes[:first]]


def loads_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return median speeds, and medians of the ratios to the stack that does not trace.

    A ratio compares turns that followed each other: the machine's moods touch both.
    """
    loads = []
    for num_clients in sorted({turn.num_clients for turn in turns}):
        speeds = {
            mode: [t.tokens_per_s for t in turns if (t.mode, t.num_clients) == (mode, num_clients)]
            for mode in (OFF, DEFAULT, ALL)
        }
        load: dict[str, Any] = {"num_clients": num_clients}
        for mode, values in speeds.items():
            ratios = [value / off for value, off in zip(values, speeds[OFF], strict=True)]
            load[mode] = {"tokens_per_s": median(values), "ratio": median(ratios)}
        loads.append(load)
    return loads


def table(loads: Sequence[dict[str, Any]]) -> str:
    """Return speeds with their ratio to no tracing in brackets."""
    lines = ["| clients | no traces | default sampling | every request |", "|---:|---:|---:|---:|"]
    for load in loads:
        cells = [f"{load[m]['tokens_per_s']:.1f} ({load[m]['ratio']:.3f})" for m in (DEFAULT, ALL)]
        off = f"{load[OFF]['tokens_per_s']:.1f}"
        lines.append(f"| {load['num_clients']} | {off} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
