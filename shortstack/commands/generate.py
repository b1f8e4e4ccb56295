"""`shortstack generate TEXT`: stream a completion to stdout, what it took to stderr."""

import time
from typing import Annotated

import typer
from rich.console import Console

from shortstack import options
from shortstack.client import Client, Completion, CompletionBuilder
from shortstack.connect import Destination, connected
from shortstack.request import Request
from shortstack.running import run_command


def command(
    text: Annotated[str, typer.Argument(help="Text to continue.")],
    target: options.Target = None,
    api_key: options.ApiKey = None,
    ca: options.Ca = None,
    model: options.Model = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    min_p: options.MinP = 0.0,
    seed: options.Seed = None,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    presence_penalty: options.PresencePenalty = 0.0,
    frequency_penalty: options.FrequencyPenalty = 0.0,
    max_new_tokens: options.MaxNewTokens = 256,
    stop: options.Stop = None,
    method: options.Method = None,
    exit_layer: options.ExitLayer = None,
    draft_len: options.DraftLen = None,
    stop_threshold: options.StopThreshold = None,
    tree_nodes: options.TreeNodes = None,
    tree_width: options.TreeWidth = None,
    tree_threshold: options.TreeThreshold = None,
    policy: options.Policy = "",
    tenant: options.Tenant = "",
    priority: options.Urgency = options.PriorityName.NORMAL,
    task: options.Task = "",
) -> None:
    """Complete a text, streaming; acceptance and speed go to stderr."""
    sampling = options.make_sampling(
        temperature,
        seed=seed,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
    )
    request = Request(
        prompt=text,
        sampling=sampling,
        limits=options.make_limits(max_new_tokens, stop),
        speculation=options.make_speculation(
            method,
            exit_layer,
            draft_len,
            stop_threshold,
            policy,
            tree_nodes=tree_nodes,
            tree_width=tree_width,
            tree_threshold=tree_threshold,
        ),
        tenant=tenant,
        priority=priority.priority,
        task=task,
    )
    run_command(generate(request, Destination(target, model, api_key, ca)))


async def generate(request: Request, destination: Destination) -> None:
    """Stream one completion."""
    console = Console(stderr=True)
    async with connected(destination, console) as client:
        started_s = time.monotonic()
        completion = await stream(client, request)
        console.print(
            summarize(completion, request, time.monotonic() - started_s),
            style="dim",
            soft_wrap=True,
        )


async def stream(client: Client, request: Request) -> Completion:
    """Print an answer as it comes; return the whole."""
    builder = CompletionBuilder()
    async for event in client.generate(request):
        print(builder.add(event), end="", flush=True)
    print()
    return builder.build()


def summarize(completion: Completion, request: Request, elapsed_s: float) -> str:
    """Say in one line what a completion took."""
    finished, counts = completion.finished, completion.speculation
    parts = [f"{finished.num_emitted} tokens", f"{finished.finish_reason.name.lower()}"]
    # The cell's own clock where there is one: it leaves out prompt and network.
    speed = finished.decode_tokens_per_s or finished.num_emitted / max(elapsed_s, 1e-9)
    parts.append(f"{speed:.1f} tokens/s")
    if counts.num_drafts:
        parts.append(f"acceptance {counts.acceptance_rate:.2f}")
        parts.append(f"mean emitted length {counts.mean_emitted_len:.2f}")
    else:
        parts.append("no drafts")
    if finished.num_cached_tokens:
        parts.append(f"{finished.num_cached_tokens} of {finished.prompt_len} prompt tokens cached")
    if finished.num_preemptions:
        parts.append(f"preempted {finished.num_preemptions}x")
    if finished.num_replays:
        parts.append(f"replayed {finished.num_replays}x")
    if not request.sampling.is_greedy:
        parts.append(f"seed {completion.started.seed}")
    return " · ".join(parts)
