"""`shortstack chat`: talk with a model; the history is kept and sent with every turn."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from shared.errors import ShortstackError
from shared.ids import new_request_id
from shortstack import options
from shortstack.client import Client
from shortstack.commands.generate import stream, summarize
from shortstack.connect import Destination, connected
from shortstack.request import Request, Turn
from shortstack.running import run_command

PROMPT = "you> "
GREETING = "/exit or Ctrl-D ends, /reset forgets what was said."


def command(
    target: options.Target = None,
    api_key: options.ApiKey = None,
    ca: options.Ca = None,
    model: options.Model = None,
    system: Annotated[str, typer.Option(help="What the model is told first.")] = "",
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = None,
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
    task: options.Task = "",
) -> None:
    """Talk with a model, turn by turn."""
    template = Request(
        prompt="",
        sampling=options.make_sampling(temperature, seed=seed, top_p=top_p),
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
        session_key=new_session_key(),
        task=task,
    )
    run_command(chat(template, system, Destination(target, model, api_key, ca)))


async def chat(template: Request, system: str, destination: Destination) -> None:
    """Answer each line of the user until there are no more."""
    console = Console(stderr=True)
    opening = [Turn("system", system)] if system else []
    async with connected(destination, console) as client:
        console.print(GREETING, style="dim")
        history = list(opening)
        async for line in typed_lines():
            if line == "/exit":
                return
            if line == "/reset":
                history = list(opening)
                template = replace(template, session_key=new_session_key())
            elif line:
                await take_turn(client, template, history, line, console)


def new_session_key() -> str:
    """Return a name that no other conversation has."""
    return f"chat-{secrets.token_hex(8)}"


async def take_turn(
    client: Client, template: Request, history: list[Turn], line: str, console: Console
) -> None:
    """Answer one line; a turn that the gateway refuses is told and leaves the history as it was."""
    asked = [*history, Turn("user", line)]
    request = replace(template, prompt=tuple(asked), request_id=new_request_id())
    started_s = time.monotonic()
    try:
        completion = await stream(client, request)
    except ShortstackError as error:
        console.print(f"shortstack: {error.message}")
        return
    history[:] = [*asked, Turn("assistant", completion.text)]
    console.print(
        summarize(completion, request, time.monotonic() - started_s), style="dim", soft_wrap=True
    )


async def typed_lines() -> AsyncIterator[str]:
    """Yield the lines that the user types, until the end of the input.

    A daemon thread reads them: one that waits for the keyboard must not hold up the end.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    wanted = threading.Semaphore(0)

    def read() -> None:
        while wanted.acquire():
            try:
                line: str | None = input(PROMPT).strip()
            except EOFError:
                line = None
            loop.call_soon_threadsafe(lines.put_nowait, line)

    threading.Thread(target=read, daemon=True).start()
    while True:
        wanted.release()
        line = await lines.get()
        if line is None:
            return
        yield line
