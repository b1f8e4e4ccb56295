"""Streams on the wire: their framing, their waiting, and how they end."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from shared.errors import PoolExhausted, QueueFull
from shared.rpc import shortstack_pb2 as pb
from tests.contract.gateway.conftest import Client, StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.polling import poll_until

HTTP = {"http_listen": "127.0.0.1:0"}
DONE = "data: [DONE]"


@asynccontextmanager
async def streamed(client: Client, **body: Any) -> AsyncIterator[httpx2.Response]:
    """Ask for a stream; it is open while the context lasts."""
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        body = {"prompt": "So:", "stream": True, **body}
        async with http.stream("POST", "/v1/completions", json=body) as response:
            yield response


async def lines_of(response: httpx2.Response) -> list[str]:
    """Return all lines of a stream, empty ones left out."""
    return [line async for line in response.aiter_lines() if line]


async def test_events_are_framed_as_server_sent_events(
    start: StartCells, completion_ids: list[int]
) -> None:
    client = await start(FakeVerifyWorker(completion_ids), **HTTP)
    async with streamed(client, max_tokens=2, stream_options={"include_usage": True}) as response:
        raw = (await response.aread()).decode()
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"].startswith("req-")
    *events, end = raw.split("\n\n")
    assert end == ""
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    assert events.pop() == DONE
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    assert [chunk["usage"] is None for chunk in chunks] == [True, True, True, False]
    assert [len(chunk["choices"]) for chunk in chunks] == [1, 1, 1, 0]


async def test_a_request_id_is_taken_or_made_and_names_the_request_to_cells(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker, **HTTP)
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        for given, taken in (("mine-1", True), ("x" * 101, False), ("blä", False)):
            answer = await http.post(
                "/v1/completions", json={"prompt": "So:"}, headers={"x-request-id": given.encode()}
            )
            told = answer.headers["x-request-id"]
            assert (told == given) is taken
            assert worker.metadata[-1]["request-id"] == told
        refused = await http.post("/v1/completions", json={}, headers={"x-request-id": "mine-2"})
    assert (refused.status_code, refused.headers["x-request-id"]) == (400, "mine-2")


async def test_a_second_try_may_come_while_the_first_still_runs(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, **HTTP)
    async with streamed(client), httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        ask = {"url": "/v1/completions", "headers": {"x-request-id": "same"}}
        tries = [
            asyncio.create_task(http.post(**ask, json={"prompt": "So:"})),
            asyncio.create_task(http.post(**ask, json={"prompt": "So:"})),
        ]
        await poll_until(lambda: worker.num_running == 3)
        ids = {metadata["request-id"] for metadata in worker.metadata}
        assert "same" in ids and len(ids) == 3
        for task in tries:
            task.cancel()
        await asyncio.gather(*tries, return_exceptions=True)
    await poll_until(lambda: worker.num_running == 0)


async def test_comments_are_sent_while_nothing_happens(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, sse_comment_ms=20, **HTTP)
    async with streamed(client) as response:
        lines = response.aiter_lines()
        seen = [await anext(lines)]
        while seen.count(": waiting") < 2:
            seen.append(await anext(lines))
    texts = [json.loads(line[6:])["choices"][0]["text"] for line in seen if line[:4] == "data"]
    assert texts == ["Once", " upon a time"]
    await poll_until(lambda: worker.num_running == 0)


async def test_a_wait_for_a_place_becomes_a_stream_only_after_a_while(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(
        worker, max_concurrent_requests=1, queue_timeout_ms=400, sse_comment_ms=20, **HTTP
    )
    async with streamed(client), streamed(client) as second:
        assert second.status_code == 200
        lines = await lines_of(second)
    assert lines[0] == ": waiting"
    assert lines[-1] == DONE
    told = json.loads(lines[-2].removeprefix("data: "))["error"]
    assert (told["type"], told["code"]) == ("rate_limit_error", "queue_full")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("trouble", "status", "code", "retry_after"),
    [
        (PoolExhausted("no pages", retry_delay_ms=1500), 429, "pool_exhausted", ("2", "1500")),
        (QueueFull("full"), 429, "queue_full", ("1", "1000")),
    ],
    ids=["pages", "queue"],
)
async def test_a_refusal_is_a_status_with_when_to_come_back(
    start: StartCells, completion_ids: list[int], is_stream: bool,
    trouble: Exception, status: int, code: str, retry_after: tuple[str, str],
) -> None:  # fmt: skip
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(refuses_with=trouble))
    client = await start(worker, **HTTP)
    async with streamed(client, stream=is_stream) as response:
        told = json.loads(await response.aread())["error"]
    assert (response.status_code, told["code"], told["type"]) == (status, code, "rate_limit_error")
    headers = response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == retry_after


async def test_without_cells_the_gateway_is_alive_but_not_ready(start: StartCells) -> None:
    client = await start(**HTTP)
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        assert (await http.get("/health")).status_code == 200
        ready = await http.get("/ready")
        asked = await http.post("/v1/completions", json={"prompt": "So:"})
    for answer in (ready, asked):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_cell")
        assert answer.headers["retry-after"] == "1"


async def test_an_error_behind_the_first_byte_is_an_event_of_the_stream(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(fails_at=4))
    client = await start(worker, **HTTP)
    async with streamed(client, n=2) as response:
        lines = await lines_of(response)
    assert response.status_code == 200
    assert lines[-1] == DONE
    told = json.loads(lines[-2].removeprefix("data: "))["error"]
    assert (told["type"], told["code"]) == ("server_error", "internal")
    await poll_until(lambda: worker.num_running == 0)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_client_that_leaves_ends_all_its_sessions(
    start: StartCells, completion_ids: list[int], is_stream: bool
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, **HTTP)
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        body = {"prompt": ["So:", "Na"], "n": 2, "stream": is_stream}
        asking = asyncio.create_task(http.post("/v1/completions", json=body))
        await poll_until(lambda: worker.num_running == 4)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await poll_until(lambda: worker.num_running == 0)
    assert worker.num_cancelled == 4
    assert client.gateway._admission.num_running == 0


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_request_is_cancelled_by_its_id_over_grpc(
    start: StartCells, completion_ids: list[int], is_stream: bool
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, **HTTP)
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        ask = {"json": {"prompt": "So:", "stream": is_stream}, "headers": {"x-request-id": "mine"}}
        asking = asyncio.create_task(http.post("/v1/completions", **ask))
        await poll_until(lambda: worker.num_running == 1)
        assert (await client.stub.Cancel(pb.CancelRequest(request_id="mine"))).was_running
        answer = await asking
    assert answer.status_code == (200 if is_stream else 499)
    assert '"code":"cancelled"' in answer.text
    await poll_until(lambda: worker.num_running == 0)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_client_that_has_stopped_reading_loses_its_session(
    start: StartCells, completion_ids: list[int], caplog: pytest.LogCaptureFixture, is_stream: bool
) -> None:
    caplog.set_level(logging.INFO)
    worker = FakeVerifyWorker(completion_ids * 10_000, round_len=300, max_context_len=10**6)
    client = await start(
        worker, max_new_tokens=10**6, slow_reader_timeout_ms=300, sse_comment_ms=0, **HTTP
    )
    port = int(client.gateway.http_url.rpartition(":")[2])
    body = json.dumps({"prompt": "So:", "max_tokens": 100_000, "logprobs": 1, "stream": is_stream})
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", port))
        head = [
            "POST /v1/completions HTTP/1.1", "Host: x", "Content-Type: application/json",
            f"Content-Length: {len(body)}", "", "",
        ]  # fmt: skip
        await loop.sock_sendall(slow, ("\r\n".join(head) + body).encode())
        await poll_until(lambda: worker.num_rounds > 0)
        await poll_until(lambda: worker.num_running == 0, timeout_s=30.0)
        await poll_until(lambda: not client.gateway._http._server.server_state.connections)  # type: ignore[union-attr]
    assert client.gateway._admission.num_running == 0
    if is_stream:
        finished = [each for each in caplog.records if each.msg == "request finished"]
        assert [each.finish_reason for each in finished] == ["slow_reader"]  # type: ignore[attr-defined]
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


async def test_a_drain_refuses_new_requests_and_lets_running_ones_finish(
    start: StartCells, completion_ids: list[int]
) -> None:
    release = asyncio.Event()
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(waits_at=4, release=release))
    client = await start(worker, **HTTP)
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        running = asyncio.create_task(http.post("/v1/completions", json={"prompt": "So:"}))
        await poll_until(lambda: worker.num_running == 1)
        draining = asyncio.create_task(client.gateway.drain())
        await poll_until(lambda: not client.gateway._admission.is_open)
        refused = await http.post("/v1/completions", json={"prompt": "So:"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "worker_draining"
        assert (await http.get("/ready")).status_code == 503
        assert (await http.get("/health")).status_code == 200
        assert not draining.done()
        release.set()
        await draining
        assert (await running).json()["choices"][0]["finish_reason"] == "stop"


async def test_what_still_runs_at_the_end_is_told_so(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, drain_timeout_ms=0, **HTTP)
    async with streamed(client) as response:
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith("data: ")
        await client.gateway.drain()
        stopping = asyncio.create_task(client.gateway.stop())
        rest = [line async for line in lines if line]
        await stopping
    assert rest[-1] == DONE
    assert "shut down before the request had ended" in rest[-2]
