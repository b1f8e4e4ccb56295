"""Requests that leave something in every signal of a stack: finished, refused, cancelled."""

import asyncio
from contextlib import suppress

from shared.errors import InvalidRequest
from shortstack.client import Client, Completion
from shortstack.request import PLAIN, Limits, Request, Speculation, Turn, pinned


async def make_traffic(client: Client, prompt: str, max_new_tokens: int = 60) -> list[Completion]:
    """Send a mix of requests; return the completions of those that ran to their ends."""
    limits = Limits(max_new_tokens, ignore_eos=True)
    requests = [
        Request(prompt, limits=limits, session_key="watched"),
        Request(f"{prompt} and", limits=limits, speculation=PLAIN),
        Request(f"{prompt} so", limits=limits, speculation=pinned(1, 3)),
        Request(f"{prompt} but", limits=limits, speculation=Speculation(policy="goodput")),
    ]
    completions = list(await asyncio.gather(*map(client.complete, requests)))
    with suppress(InvalidRequest):
        await client.complete(Request(""))
    with suppress(InvalidRequest):
        await client.complete(Request(prompt, speculation=Speculation(method="unheard-of")))
    stream = client.generate(Request(prompt, limits=Limits(max_new_tokens, ignore_eos=True)))
    await anext(stream)
    await stream.aclose()
    # A chat, where the model knows how.
    with suppress(InvalidRequest):
        turns = (Turn("user", prompt),)
        completions.append(await client.complete(Request(turns, limits=limits)))
    return completions
