"""A stack comes up, serves, and leaves nothing behind, however it ends."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from shortstack.client import Client
from shortstack.errors import StackError
from shortstack.plan import CellKind, StackConfig
from shortstack.request import Limits, Request
from shortstack.stack import Stack
from tests.cluster.conftest import is_gone, segments_of
from tests.polling import poll_until

pytestmark = pytest.mark.timeout(240)

PARENT = """
import asyncio, json, sys
from pathlib import Path
from shortstack.plan import StackConfig
from shortstack.stack import Stack

async def main():
    stack = Stack(StackConfig(model=Path(sys.argv[1]), num_threads=1))
    await stack.start()
    pids = {child.name: child.pid for child in stack.children.values()}
    print(json.dumps({"runtime_dir": str(stack.runtime_dir), "pids": pids}), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_stack_serves_and_stops_without_a_trace(config: StackConfig) -> None:
    async with Stack(config) as stack:
        async with Client(stack.target) as client:
            limits = Limits(max_new_tokens=20, ignore_eos=True)
            completion = await client.complete(Request("Once upon a time", limits=limits))
            served = await client.models()
        assert completion.finished.num_emitted == len(completion.token_ids) == 20
        assert [cell.cell_id for cell in served.cells] == ["cell-0"]
        pids = [child.pid for child in stack.children.values()]
        segments = segments_of(stack.children["verify-0"].pid)
        runtime_dir = stack.runtime_dir
        assert runtime_dir.stat().st_mode & 0o777 == 0o700
        assert segments and all(path.exists() for path in segments)
    assert all(map(is_gone, pids))
    assert not runtime_dir.exists()
    assert not any(path.exists() for path in segments)


async def test_a_killed_parent_leaves_nothing(model_dir: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(model_dir), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    started = json.loads(await parent.stdout.readline())
    pids, runtime_dir = started["pids"], Path(started["runtime_dir"])
    segments = segments_of(pids["verify-0"])
    assert segments
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    await poll_until(lambda: all(map(is_gone, pids.values())), timeout_s=20)
    await poll_until(lambda: not runtime_dir.exists(), timeout_s=20)
    assert not any(path.exists() for path in segments)


@pytest.mark.parametrize("kind", [CellKind.FUSED, CellKind.PLAIN])
async def test_other_kinds_of_cells_need_no_draft_worker(
    config: StackConfig, kind: CellKind
) -> None:
    static = replace(config, cell_kind=kind, redis_url="none")
    async with Stack(static) as stack, Client(stack.target) as client:
        assert set(stack.children) == {"verify-0", "gateway"}
        limits = Limits(max_new_tokens=30, ignore_eos=True)
        completion = await client.complete(Request((5, 6, 7), limits=limits))
    assert len(completion.token_ids) == 30
    assert bool(completion.speculation.num_drafts) == (kind is CellKind.FUSED)


async def test_a_worker_that_dies_at_start_is_told_with_its_last_words(
    config: StackConfig,
) -> None:
    broken = replace(config, environ={"SHORTSTACK_VERIFY__PAGE_SIZE": "none"})
    stack = Stack(broken)
    with pytest.raises(StackError, match="PAGE_SIZE"):
        await stack.start()
    assert not stack.children


async def test_a_stack_that_is_not_ready_in_time_says_what_is_missing(
    config: StackConfig,
) -> None:
    stack = Stack(replace(config, start_timeout_s=1.0))
    with pytest.raises(StackError, match="does not serve yet"):
        await stack.start()
    assert not stack.runtime_dir.exists()


async def test_up_stops_cleanly_at_sigterm(model_dir: Path, tmp_path: Path) -> None:
    socket = tmp_path / "gateway.sock"
    command = ["up", "--model", model_dir, "--listen", f"unix:{socket}", "--num-threads", "1"]
    command += ["--http", "127.0.0.1:0"]
    up = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shortstack.cli", *map(str, command),
        stderr=asyncio.subprocess.PIPE, env=dict(os.environ),
    )  # fmt: skip
    assert up.stderr is not None
    while b"try: shortstack generate" not in (line := await up.stderr.readline()):
        assert line, "ended before it was up"
    api = (await up.stderr.readline()).decode().removeprefix("OpenAI API: ").strip()
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{api}/models")).json()["data"][0]["id"] == model_dir.name
    up.send_signal(signal.SIGTERM)
    assert await up.wait() == 0
    assert b"stopped" in await up.stderr.read()
    assert not socket.exists()
