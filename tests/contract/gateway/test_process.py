"""The gateway as a process: it starts from its environment and drains on a signal."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tokenizers import Tokenizer

from services.gateway.main import SERVICE_NAME
from shared.errors import ShortstackError, WorkerDraining
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses, translated_errors
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.polling import poll_until


async def launch(environ: dict[str, str]) -> Process:
    """Start a gateway with nothing else of ours in its environment."""
    inherited = {name: text for name, text in os.environ.items() if "SHORTSTACK" not in name}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway.main",
        env={**inherited, **environ}, stderr=PIPE,
    )  # fmt: skip


@pytest.fixture
async def worker(completion_ids: list[int]) -> AsyncIterator[FakeVerifyWorker]:
    """A cell whose sessions hang in the middle."""
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    await worker.start()
    yield worker
    await worker.kill()


async def test_a_signal_drains_the_gateway_and_it_ends_with_status_0(
    tmp_path: Path, tokenizer: Tokenizer, worker: FakeVerifyWorker
) -> None:
    address, http_path = f"unix:{tmp_path}/gateway.sock", tmp_path / "http.sock"
    process = await launch(
        {
            "SHORTSTACK_MODEL__PATH": str(tmp_path),
            "SHORTSTACK_MODEL__NAME": "small",
            "SHORTSTACK_GATEWAY__LISTEN": address,
            "SHORTSTACK_GATEWAY__HTTP_LISTEN": f"unix:{http_path}",
            "SHORTSTACK_GATEWAY__CELLS": worker.address,
        }
    )
    async with (
        open_channel(address) as channel,
        httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(http_path)), base_url="http://gateway"
        ) as http,
    ):
        health, gateway = health_pb2_grpc.HealthStub(channel), GatewayServiceStub(channel)

        async def health_is(status: int) -> bool:
            request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            try:
                with translated_errors():
                    return bool((await health.Check(request)).status == status)
            except ShortstackError:
                return False

        await poll_until(lambda: health_is(health_pb2.HealthCheckResponse.SERVING))
        call = gateway.GenerateText(pb.GenerateTextRequest(request_id="mine", prompt="So:"))
        await poll_until(lambda: worker.num_running == 1)
        body = {"prompt": "So:", "stream": True}
        ask = http.build_request(
            "POST", "/v1/completions", json=body, headers={"x-request-id": "ours"}
        )
        streamed = await http.send(ask, stream=True)
        process.send_signal(signal.SIGTERM)
        await poll_until(lambda: health_is(health_pb2.HealthCheckResponse.NOT_SERVING))
        with pytest.raises(WorkerDraining):
            async for _ in responses(gateway.GenerateText(pb.GenerateTextRequest(prompt="So:"))):
                raise AssertionError("it drains")
        refused = await http.post("/v1/completions", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert process.returncode is None
        await gateway.Cancel(pb.CancelRequest(request_id="mine"))
        ends = [response.WhichOneof("event") async for response in responses(call)]
        assert ends[-1] == "finished"
        assert process.returncode is None
        await gateway.Cancel(pb.CancelRequest(request_id="ours"))
        assert [line async for line in streamed.aiter_lines() if line][-1] == "data: [DONE]"
    _, logs = await process.communicate()
    assert process.returncode == 0, logs.decode()
    assert not http_path.exists()
    events = [json.loads(line)["event"] for line in logs.decode().splitlines()]
    for event in ("settings", "serving", "draining", "request finished", "stopped"):
        assert event in events


async def test_a_port_that_is_taken_is_told(
    tmp_path: Path, tokenizer: Tokenizer, worker: FakeVerifyWorker
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await launch(
            {
                "SHORTSTACK_MODEL__PATH": str(tmp_path),
                "SHORTSTACK_GATEWAY__LISTEN": "127.0.0.1:0",
                "SHORTSTACK_GATEWAY__HTTP_LISTEN": f"127.0.0.1:{port}",
                "SHORTSTACK_GATEWAY__CELLS": worker.address,
            }
        )
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert f"cannot listen for HTTP on 127.0.0.1:{port}" in errors.decode()


async def test_a_faulty_environment_is_refused_with_all_faults() -> None:
    process = await launch({"SHORTSTACK_GATEWAY__MAX_REPLAYS": "x"})
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert "SHORTSTACK_GATEWAY__MAX_REPLAYS" in errors.decode()
    assert "SHORTSTACK_MODEL__PATH" in errors.decode()


async def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    process = await launch(
        {"SHORTSTACK_MODEL__PATH": str(tmp_path), "SHORTSTACK_GATEWAY__CELLS": "unix:/nobody"}
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert "tokenizer.json is missing" in errors.decode()
