"""`shortstack bench threads`: what it is worth to fit compute threads to each pass, served.

Three stacks on one model: threads as each pass is worth (`ours`), one for all passes, and all
processors for all passes. They decode the prompts in turn, plain and with a fixed draft; what
counts is the median of pairs.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from shared.telemetry.machine import describe_machine
from shortstack import options
from shortstack.bench.arguments import publish
from shortstack.bench.control.options import default_prompts
from shortstack.bench.open_bench import check_room
from shortstack.bench.paired import Interval, paired_interval
from shortstack.bench.prompts import BenchPrompt, read_bench_prompts
from shortstack.bench.runners import GatewayRunner, Work
from shortstack.bench.samples import Peer
from shortstack.checkpoint import require_model_dir
from shortstack.client import Client
from shortstack.exits.options import require_writable
from shortstack.exits.prompts import lazy_encode
from shortstack.plan import StackConfig
from shortstack.progress import StartProgress
from shortstack.request import PLAIN, Speculation, pinned
from shortstack.running import run_command
from shortstack.stack import Observer, Stack

OURS, ONE, ALL = "ours", "one", "all"

# Decode speeds, tokens/s, by way of decoding and by stack; those of one turn at one place.
Speeds = dict[str, dict[str, list[float]]]


def command(
    model: options.Model = None,
    prompts: Annotated[
        list[Path] | None, typer.Option(help="JSON lines: id, kind, prompt; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Prompts of each file; 0: all.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each text.")] = 64,
    exit_layer: Annotated[int, typer.Option(min=1, help="Exit of the fixed draft.")] = 2,
    draft_len: Annotated[int, typer.Option(min=1, help="Its length.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of everybody.")] = 5,
    as_json: options.AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON here.")] = None,
) -> None:
    """Measure what fitting compute threads to each pass is worth."""
    model_dir = require_model_dir(model)
    if out is not None:
        require_writable("--out", out)
    read = read_bench_prompts(prompts or default_prompts(), lazy_encode(model_dir), limit)
    ways = {"plain": PLAIN, "draft": pinned(exit_layer, draft_len, 0.0)}
    machine = describe_machine()
    with StartProgress(Console(stderr=True, markup=False, highlight=False)) as progress:
        turns = Turns(read, ways, max_new_tokens, repeats)
        on_turn = progress.add_bar("decoding", turns.num_texts)
        speeds = run_command(turns.take(model_dir, on_turn, progress.observe))
    ratios = ratios_of(speeds)
    if not as_json:
        console = Console(markup=False, highlight=False)
        for name, found in ratios.items():
            console.print(f"{name}: {_shown(found)}")
    result: dict[str, Any] = {
        "model": model_dir.name,
        "machine": asdict(machine),
        "max_new_tokens": max_new_tokens,
        "exit_layer": exit_layer,
        "draft_len": draft_len,
        "num_prompts": len(read),
        "repeats": repeats,
        "ratios": {name: asdict(found) for name, found in ratios.items()},
    }
    publish(result, as_json, out)


def _shown(found: Interval) -> str:
    return f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def ratios_of(speeds: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Interval]:
    """Return how many times faster ours is than each other stack, by way of decoding."""
    return {
        f"{way}, ours / {other}": paired_interval(
            [ours / theirs for ours, theirs in zip(of_way[OURS], of_way[other], strict=True)]
        )
        for way, of_way in speeds.items()
        for other in (ONE, ALL)
    }


class Turns:
    """Every prompt in every way on every stack, by turns."""

    def __init__(
        self,
        prompts: Sequence[BenchPrompt],
        ways: Mapping[str, Speculation],
        max_new_tokens: int,
        repeats: int,
    ) -> None:
        self._prompts = prompts
        self._ways = ways
        self._max_new_tokens = max_new_tokens
        self._repeats = repeats
        self._num_threads = {OURS: 0, ONE: 1, ALL: os.cpu_count() or 1}

    @property
    def num_texts(self) -> int:
        """Texts decoded, those that warm up included."""
        num_rounds = self._repeats + 1
        return num_rounds * len(self._prompts) * len(self._ways) * len(self._num_threads)

    async def take(
        self, model_dir: Path, on_turn: Callable[[], None], on_event: Observer
    ) -> Speeds:
        """Bring the stacks up and take turns; the first ones warm up and do not count.

        Raises:
            StackError: a stack did not come up.
            UsageError: a prompt leaves no room.
            ShortstackError: a request failed.
        """
        async with AsyncExitStack() as contexts:
            clients = {}
            for name, number in self._num_threads.items():
                config = StackConfig(model=model_dir, num_threads=number)
                stack = await contexts.enter_async_context(Stack(config, on_event))
                clients[name] = await contexts.enter_async_context(Client(stack.target))
            model = (await clients[OURS].models()).models[0]
            check_room(self._prompts, self._max_new_tokens, model.max_context_len)
            work = Work(self._max_new_tokens, tuple(model.eos_token_ids), ignore_eos=True)
            speeds: Speeds = {way: {name: [] for name in clients} for way in self._ways}
            for repeat in range(self._repeats + 1):
                for index, prompt in enumerate(self._prompts):
                    for way, wished in self._ways.items():
                        for name in _rotated(list(clients), repeat + index):
                            runner = GatewayRunner(Peer.PIPELINE, clients[name], work, wished)
                            speed = (await runner.run(prompt)).decode_tok_s
                            assert speed is not None, "all tokens came at once"
                            on_turn()
                            if repeat:
                                speeds[way][name].append(speed)
                    await asyncio.sleep(0)
        return speeds


def _rotated(names: list[str], turn: int) -> list[str]:
    first = turn % len(names)
    return names[first:] + names[:first]
