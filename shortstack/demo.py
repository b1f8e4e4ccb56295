"""`shortstack demo`: the whole pipeline at work on this machine, in under a minute.

Brings up Redis, a draft worker, a verify worker and a gateway as processes, streams four answers
side by side, then measures the same prompts with and without speculation through the same gateway:
one request at a time, plain and speculative in turn, medians. Leaves nothing behind.
"""

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shared.ids import new_request_id
from shared.speculation.vocabulary import SamplingParams, SpeculationSummary
from shortstack import options
from shortstack.checkpoint import require_model_dir
from shortstack.client import Client, Completion
from shortstack.demo_view import Answer, Row, growing, speed_table
from shortstack.plan import CellKind, StackConfig
from shortstack.progress import StartProgress
from shortstack.request import PLAIN, Limits, Request, Speculation
from shortstack.running import run_command
from shortstack.stack import Stack

PROMPTS = Path(__file__).parent / "prompts" / "demo.jsonl"
NEXT_STEPS = """\
Next:
  shortstack up                            keep a stack running (gRPC on 127.0.0.1:50051)
  shortstack generate "Once upon a time"   stream a completion
  shortstack info                          cells, pool and counters
  README.md, docs/how-a-token-is-made.md   how it works"""


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """A prompt, how it is sampled, and the static settings that suit its kind.

    A small model writes sums and dialogues greedily; prose and code soon repeat themselves then, so
    they are sampled, with a seed. Both are exact.
    """

    kind: str
    prompt: str
    sampling: SamplingParams
    speculation: Speculation

    def request(self, max_new_tokens: int) -> Request:
        """Return the request with speculation."""
        limits = Limits(max_new_tokens=max_new_tokens)
        return Request(
            prompt=self.prompt, sampling=self.sampling, limits=limits, speculation=self.speculation
        )


def command(
    model: options.Model = None,
    max_new_tokens: options.MaxNewTokens = 96,
    repetitions: Annotated[int, typer.Option(min=1, help="Measurements per prompt.")] = 3,
    cell: options.Cell = CellKind.SPLIT,
) -> None:
    """Watch four prompts, then compare with plain decoding."""
    config = StackConfig(model=require_model_dir(model), cell_kind=cell)
    run_command(demo(config, max_new_tokens, repetitions))


async def demo(config: StackConfig, max_new_tokens: int, repetitions: int) -> None:
    """Run the demo from start to end."""
    console = Console()
    prompts = read_demo_prompts()
    with StartProgress(console) as progress:
        stack = Stack(config, progress.observe)
        await stack.start()
    try:
        names = ", ".join(f"{child.name} ({child.pid})" for child in stack.children.values())
        console.print(f"Running as separate processes: {names}", soft_wrap=True, highlight=False)
        async with Client(stack.target) as client:
            requests = {prompt.kind: prompt.request(max_new_tokens) for prompt in prompts}
            await show(client, prompts, requests, console)
            with console.status("measuring"):
                rows = await measure(client, requests, repetitions)
    finally:
        await stack.stop()
    console.print(speed_table(rows))
    console.print(NEXT_STEPS, highlight=False, soft_wrap=True)


def read_demo_prompts() -> list[DemoPrompt]:
    """Read the bundled prompts."""
    lines = map(json.loads, PROMPTS.read_text(encoding="utf-8").splitlines())
    return [
        DemoPrompt(
            line["kind"],
            line["prompt"],
            SamplingParams(**line.get("sampling", {})),
            Speculation(
                exit_layer=line["exit_layer"],
                max_draft_len=line["draft_len"],
                stop_threshold=line["stop_threshold"],
            ),
        )
        for line in lines
    ]


async def show(
    client: Client, prompts: Sequence[DemoPrompt], requests: dict[str, Request], console: Console
) -> None:
    """Stream all answers at once, side by side."""
    answers = [Answer(prompt.kind, prompt.prompt) for prompt in prompts]
    with growing(answers, console):
        await asyncio.gather(*(stream(client, requests[answer.kind], answer) for answer in answers))


async def stream(client: Client, request: Request, answer: Answer) -> None:
    """Let one answer grow."""
    async for event in client.generate(request):
        answer.add(event)


async def measure(client: Client, requests: dict[str, Request], repetitions: int) -> list[Row]:
    """Measure every prompt, plain and speculative in turn, one request at a time."""
    plain: dict[str, list[Completion]] = {kind: [] for kind in requests}
    ours: dict[str, list[Completion]] = {kind: [] for kind in requests}
    for _ in range(repetitions):
        for kind, request in requests.items():
            plain[kind].append(await again(client, replace(request, speculation=PLAIN)))
            ours[kind].append(await again(client, request))
    return [make_row(kind, plain[kind], ours[kind]) for kind in requests]


async def again(client: Client, request: Request) -> Completion:
    """Run a request under a new id, to its full length whatever the text."""
    limits = replace(request.limits, ignore_eos=True)
    return await client.complete(replace(request, limits=limits, request_id=new_request_id()))


def make_row(kind: str, plain: Sequence[Completion], ours: Sequence[Completion]) -> Row:
    """Sum up the measurements of one prompt."""
    texts = {completion.token_ids for completion in [*plain, *ours]}
    # Of all runs: a single one may have gone without drafts while the cell measured something.
    total = SpeculationSummary()
    for run in ours:
        total.add(run.speculation)
    return Row(
        kind,
        statistics.median(run.finished.decode_tokens_per_s for run in plain),
        statistics.median(run.finished.decode_tokens_per_s for run in ours),
        total.acceptance_rate,
        total.mean_emitted_len,
        len(texts) == 1,
    )
