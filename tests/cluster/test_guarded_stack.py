"""Two cells with API keys: restarts under load, hostile callers, and logs that keep quiet."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from shared.access.api_key import hash_key, make_key
from shared.access.key_records import KeyRecord
from shared.errors import InvalidRequest, Unauthenticated
from shortstack.access import Access
from shortstack.bench.hostile.http_stand import attack_http, http_bugs_in
from shortstack.bench.hostile.remains import num_fds, settled_losses
from shortstack.bench.hostile.stand import attack_stack, bugs_in, targets_of
from shortstack.client import Client, Completion
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request, Turn
from shortstack.rolling import restart_workers, worker_names
from shortstack.stack import Stack
from tests.cluster.streams import fresh, ids_of, make_requests, run_plain, total
from tests.cluster.test_faults import pages_are_back
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

KEY = make_key()
MARKER = "xyzzy-plugh-4711"
NUM_CLIENTS = 3
NUM_ATTACKS, NUM_HTTP_ATTACKS, SEED = 400, 120, 5
RESTARTED = ("verify-0", "draft-0", "verify-1")


@dataclass(frozen=True, slots=True)
class KeyedStack:
    """A stack, a client with a key, and where its logs lie."""

    stack: Stack
    client: Client
    log_dir: Path

    def logs(self) -> dict[str, str]:
        """Return what each process has logged."""
        return {path.name: path.read_text() for path in self.log_dir.glob("*.log")}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def keyed(
    config: StackConfig, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[KeyedStack]:
    """Two cells that hand over at once and log all they have to say."""
    log_dir = tmp_path_factory.mktemp("logs")
    line = KeyRecord(name="a-1", tenant="a", hash=hash_key(KEY)).to_line()
    environ = {
        **config.environ,
        "SHORTSTACK_GATEWAY__API_KEYS": line,
        "SHORTSTACK_VERIFY__DRAIN_TIMEOUT_MS": "0",
    }
    access = Access(KEY)
    keyed = replace(
        config,
        num_cells=2,
        environ=environ,
        access=access,
        log_level="DEBUG",
        log_dir=log_dir,
        http="127.0.0.1:0",
    )
    async with Stack(keyed) as stack, Client(stack.target, access) as client:
        yield KeyedStack(stack, client, log_dir)


async def test_restarting_worker_after_worker_loses_no_request_and_no_token(
    keyed: KeyedStack,
) -> None:
    stack, client = keyed.stack, keyed.client
    requests = make_requests(NUM_CLIENTS)
    expected = await run_plain(client, requests)
    is_over = asyncio.Event()

    async def ask_again_and_again(request: Request) -> list[Completion]:
        completions = []
        while not is_over.is_set():
            completions.append(await client.complete(fresh(request)))
        return completions

    load = [asyncio.create_task(ask_again_and_again(request)) for request in requests]
    before = {name: child.pid for name, child in stack.children.items()}
    await restart_workers(stack, RESTARTED)
    is_over.set()
    for ids, answers in zip(expected, await asyncio.gather(*load), strict=True):
        assert answers and set(ids_of(answers)) == {ids}
    completions = [each for task in load for each in task.result()]
    assert total(completions, lambda each: each.finished.num_replays) > 0
    assert total(completions, lambda each: each.speculation.num_drafts) > 0
    changed = {name for name, child in stack.children.items() if child.pid != before[name]}
    assert changed == set(RESTARTED) <= set(worker_names(stack))
    await poll_until(lambda: pages_are_back(stack))


async def test_hostile_messages_break_nothing_and_leave_nothing(keyed: KeyedStack) -> None:
    stack, client = keyed.stack, keyed.client
    targets, metadata = targets_of(stack), keyed.stack.config.access.metadata
    requests = make_requests(2)
    expected = await run_plain(client, requests)
    await attack_stack(targets, NUM_ATTACKS // 4, SEED - 1, metadata)
    before = num_fds(stack)
    tally = await attack_stack(targets, NUM_ATTACKS, SEED, metadata)
    assert not bugs_in(tally), (SEED, tally)
    ended = {code for _, code in tally}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"} <= ended, (SEED, tally)
    assert not await settled_losses(stack, before)
    answers = await asyncio.gather(*(client.complete(fresh(request)) for request in requests))
    assert ids_of(answers) == expected


async def test_hostile_http_requests_break_nothing_and_leave_nothing(keyed: KeyedStack) -> None:
    stack, client = keyed.stack, keyed.client
    (request,) = make_requests(1)
    expected = await run_plain(client, [request])
    headers = {"authorization": f"Bearer {KEY}"}
    await attack_http(stack.http_url, NUM_HTTP_ATTACKS // 4, SEED - 1, headers)
    before = num_fds(stack)
    tally = await attack_http(stack.http_url, NUM_HTTP_ATTACKS, SEED, headers)
    assert not http_bugs_in(tally), (SEED, tally)
    assert sum(tally.values()) == NUM_HTTP_ATTACKS
    assert {"200", "400", "404"} <= {ending for _, ending in tally}, (SEED, tally)
    assert not await settled_losses(stack, before)
    assert ids_of([await client.complete(fresh(request))]) == expected


async def test_no_prompt_and_no_key_is_logged_by_anybody(keyed: KeyedStack) -> None:
    client = keyed.client
    limits = Limits(max_new_tokens=8, stop_strings=(f"stop {MARKER}",))
    prompts = (MARKER, (Turn("system", f"be {MARKER}"), Turn("user", MARKER)))
    for prompt in prompts:
        await client.complete(Request(prompt, limits=limits, session_key="talk"))
    with pytest.raises(InvalidRequest):
        await client.complete(Request(MARKER * 5000, limits=limits))
    with pytest.raises(InvalidRequest):
        await client.complete(Request((Turn("nobody", MARKER),), limits=limits))
    async with Client(keyed.stack.target, Access(f"{KEY}x")) as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.complete(Request(MARKER))
    logs = keyed.logs()
    assert {"gateway.log", "verify-0.log", "draft-0.log", "verify-1.log"} <= logs.keys()
    assert logs["gateway.log"].count('"request finished"') > NUM_CLIENTS
    assert '"DEBUG"' in logs["gateway.log"]
    for name, text in logs.items():
        assert MARKER not in text, name
        assert KEY not in text, name
