"""Sends hostile HTTP requests to a gateway; tells how each ended."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from shortstack.bench.hostile.http_attacks import HttpAttack, make_http_attacks
from shortstack.bench.hostile.stand import NUM_AT_A_TIME, Tally
from shortstack.bench.http_connection import BadAnswer, HttpConnection, write_request

# Attacks that are made at a time.
NUM_MADE = 400
# How those that have no status ended: as they may, and as none may.
LEFT, CLOSED = "LEFT", "CLOSED"
UNANSWERED, HUNG, NO_DELAY, FAILED_STREAM = "UNANSWERED", "HUNG", "NO_RETRY_AFTER", "FAILED_STREAM"
HTTP_BUGS = (UNANSWERED, HUNG, NO_DELAY, FAILED_STREAM)
OVERLOADED = (429, 503)
STREAM_FAULT = b'"type":"server_error"'


async def attack_http(
    url: str,
    num: int,
    seed: int,
    headers: Mapping[str, str] | None = None,
    on_call: Callable[[], None] = lambda: None,
) -> Tally:
    """Send so many attacks to a gateway's HTTP port; return how often each endpoint ended how."""
    own = dict(headers or {})
    document = await fetch_document(url, own)
    tally: Tally = Counter()
    for first in range(0, num, NUM_MADE):
        num_made = min(NUM_MADE, num - first)
        attacks = await asyncio.to_thread(make_http_attacks, document, num_made, seed + first, own)
        places = asyncio.Semaphore(NUM_AT_A_TIME)

        async def run(attack: HttpAttack, places: asyncio.Semaphore = places) -> None:
            async with places:
                tally[attack.name, await send_http(url, attack)] += 1
                on_call()

        await asyncio.gather(*map(run, attacks))
    return tally


async def fetch_document(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return a server's OpenAPI document."""
    async with HttpConnection(url) as connection:
        lines = {"host": "localhost", **headers}
        body = await connection.answer(write_request("GET", "/openapi.json", lines, b""))
    document: dict[str, Any] = json.loads(body)
    return document


async def send_http(url: str, attack: HttpAttack) -> str:
    """Send an attack over a connection of its own; return its status, or how else it ended."""
    body = bytearray()
    async with HttpConnection(url) as connection:
        try:
            async with asyncio.timeout(attack.stay_s):
                async with aclosing(connection.stream(attack.request)) as pieces:
                    async for _, piece in pieces:
                        body += piece
        except TimeoutError:
            return LEFT if attack.leaves else HUNG
        except (BadAnswer, OSError):
            return UNANSWERED if attack.is_whole else CLOSED
        return ending_of(connection.status, connection.headers, bytes(body))


def ending_of(status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Return the name of how a whole answer ended."""
    if status in OVERLOADED and "retry-after" not in headers:
        return NO_DELAY
    if status == 200 and STREAM_FAULT in body and b"data: {" in body:
        return FAILED_STREAM
    return str(status)


def http_bugs_in(tally: Tally) -> list[str]:
    """Return the requests that ended as none may."""
    return [f"{num} x {name}: {how}" for (name, how), num in tally.items() if is_http_bug(how)]


def is_http_bug(ending: str) -> bool:
    """Whether no request may end so: by a server error other than being overloaded, or worse."""
    is_error = ending.isdecimal() and int(ending) >= 500 and int(ending) not in OVERLOADED
    return ending in HTTP_BUGS or is_error
