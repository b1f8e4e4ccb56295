"""What sessions leave in Redis and begin with, in a stack of real processes; and its death."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.control.store.keys import arms_name, session_name
from shared.ids import new_request_id
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.request import PLAIN, Limits, Request, Speculation
from shortstack.stack import Stack
from tests.cluster.streams import Streams, make_requests
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

GOODPUT = Speculation(policy="goodput")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(config: StackConfig) -> AsyncIterator[Stack]:
    """A stack in which the controller decides."""
    async with Stack(replace(config, environ={})) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(stack: Stack) -> AsyncIterator[Client]:
    """A client of that stack."""
    async with Client(stack.target) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    """The stack's Redis, running."""
    for child in stack.poll():
        stack.restart(child.name)
    await stack.wait_until_ready()
    redis: Redis = Redis.from_url(stack.redis_url, decode_responses=True)
    yield redis
    await redis.aclose()


def decided(request: Request, **changes: object) -> Request:
    """Return a request that leaves everything to the controller."""
    return replace(request, speculation=GOODPUT, **changes)  # type: ignore[arg-type]


async def state_of(redis: Redis, session_key: str) -> tuple[int, str]:
    """Return what is stored of a conversation: positions of all turns, and its kind."""
    positions, mk = await redis.hmget(session_name("", session_key), ("pos", "mk"))
    return int(positions or 0), str(mk)


async def test_a_conversation_goes_on_from_its_last_turn(
    client: Client, stack: Stack, redis: Redis
) -> None:
    (request,) = make_requests(1, max_new_tokens=60)
    turn = decided(request, session_key="talk", task="chat")
    await client.complete(turn)

    async def has_first_turn() -> bool:
        # The prefill's token is no round's.
        return (await state_of(redis, "talk"))[0] == 59

    await poll_until(has_first_turn)
    await client.complete(replace(turn, request_id=new_request_id()))

    async def has_second_turn() -> bool:
        return (await state_of(redis, "talk"))[0] == 2 * 59

    await poll_until(has_second_turn)
    priors = [key async for key in redis.scan_iter(match="ss1:prior:*")]
    assert any(":k:" in key for key in priors)
    told = str([await redis.hgetall(key) for key in priors]) + str(priors)
    assert "talk" not in told
    assert "chat" not in told
    live = [key async for key in redis.scan_iter(match="ss1:live:*")]
    assert len(live) == 1


async def test_redis_may_die_in_mid_stream_and_come_back(
    client: Client, stack: Stack, redis: Redis
) -> None:
    requests = make_requests(3, max_new_tokens=400)
    expected = [
        (await client.complete(replace(each, speculation=PLAIN))).token_ids for each in requests
    ]
    streams = Streams(
        client,
        [
            decided(each, session_key=f"key-{index}", limits=Limits(400, ignore_eos=True))
            for index, each in enumerate(requests)
        ],
    )
    streams.start()
    # Whether any of them drafts is the controller's to say.
    await poll_until(lambda: streams.are_all_emitting, timeout_s=60)
    os.kill(stack.children["redis"].pid, signal.SIGKILL)
    completions = await streams.finish()
    assert [each.token_ids for each in completions] == expected
    # Without it new sessions are served as well.
    again = await client.complete(
        decided(requests[0], session_key="key-0", request_id=new_request_id())
    )
    assert again.token_ids == expected[0]

    await poll_until(lambda: stack.children["redis"].exit_status is not None)
    for child in stack.poll():
        stack.restart(child.name)
    await stack.wait_until_ready()
    await client.complete(decided(requests[1], session_key="later", request_id=new_request_id()))

    async def is_stored() -> bool:
        return (await state_of(redis, "later"))[0] == 399

    # The store tries again behind its breaker's pause.
    await poll_until(is_stored, timeout_s=60)


async def test_an_operator_s_switch_turns_all_drafts_off(
    client: Client, stack: Stack, redis: Redis
) -> None:
    (request,) = make_requests(1, max_new_tokens=60)
    wanted = decided(request, session_key="switch")
    expected = (await client.complete(wanted)).token_ids

    async def is_known() -> bool:
        return (await state_of(redis, "switch"))[0] > 0

    await poll_until(is_known)
    _, mk = await state_of(redis, "switch")
    await redis.set(arms_name(mk), '{"version": 1, "enabled": false}')

    async def is_killed() -> bool:
        done = await client.complete(replace(wanted, request_id=new_request_id()))
        assert done.token_ids == expected
        told = await client.session_timeline(done.started.session_id)
        return {each.reason for each in told.rounds} == {"killed"}

    # Orders are read every ten seconds.
    await poll_until(is_killed, timeout_s=60)
