"""API keys on the gateway's port: who may call, for whom, and what of others may be seen."""

import asyncio
from pathlib import Path

import grpc
import pytest

from services.gateway.main import SERVICE_NAME
from shared.access.api_key import hash_key, make_key
from shared.access.key_file import write_key_file
from shared.access.key_records import KeyRecord
from shared.errors import (
    InvalidRequest,
    NotAllowed,
    SessionNotFound,
    Unauthenticated,
)
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses, translated_errors
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub
from shared.settings import SettingsError
from shortstack.access import Access
from shortstack.client import Client
from shortstack.request import Limits, Request
from tests.contract.gateway.conftest import StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.contract.hosts import health_of, reflected_services
from tests.polling import poll_until

SHORT = Limits(max_new_tokens=10)
KEYS = {name: make_key() for name in ("a", "b", "operator")}


def record(name: str, **fields: object) -> KeyRecord:
    """The record of one of the keys; the tenant is called as the key."""
    values = {"name": name, "tenant": name, "hash": hash_key(KEYS[name]), **fields}
    return KeyRecord.model_validate(values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of keys."""
    path = tmp_path / "keys.jsonl"
    operator = record("operator", sees_all_tenants=True)
    write_key_file(path, (record("a", max_new_tokens=10), record("b"), operator))
    return path


def client_of(address: str, name: str) -> Client:
    """A client that shows one of the keys."""
    return Client(address, Access(KEYS[name]))


async def test_only_keys_are_served_and_the_tenant_is_the_keys(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    address = (await start(worker, api_keys_path=path)).gateway.address
    async with Client(address) as nobody, Client(address, Access(make_key())) as stranger:
        for client in (nobody, stranger):
            with pytest.raises(Unauthenticated):
                await client.complete(Request("So:"))
            with pytest.raises(Unauthenticated):
                await client.models()
    async with client_of(address, "a") as client:
        answer = await client.complete(Request("So:", limits=SHORT))
        assert answer.finished.num_emitted == 10
        with pytest.raises(InvalidRequest, match="at most 10"):
            await client.complete(Request("So:", limits=Limits(max_new_tokens=11)))
        with pytest.raises(NotAllowed):
            await client.complete(Request("So:", tenant="b", limits=Limits(max_new_tokens=1)))
        assert (await client.models()).cells
    assert [request.tenant for request in worker.requests] == ["a"]


async def test_several_headers_are_refused_and_a_stream_too(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    address = (await start(FakeVerifyWorker(completion_ids), api_keys_path=path)).gateway.address
    headers = tuple(("authorization", f"Bearer {KEYS[name]}") for name in ("a", "b"))
    async with open_channel(address) as channel:
        stub = GatewayServiceStub(channel)
        with pytest.raises(Unauthenticated, match="not several"), translated_errors():
            await stub.ListModels(pb.ListModelsRequest(), metadata=headers)
        with pytest.raises(Unauthenticated):
            async for _ in responses(stub.GenerateText(pb.GenerateTextRequest(prompt="So:"))):
                raise AssertionError("it was let in")


@pytest.mark.parametrize("is_open", [True, False])
async def test_health_and_reflection_are_open_unless_the_settings_say_otherwise(
    start: StartCells, path: Path, is_open: bool
) -> None:
    options = {"health_is_open": is_open, "has_reflection": True, "api_keys_path": path}
    address = (await start(**options)).gateway.address
    async with open_channel(address) as channel:
        assert (await health_of(channel, SERVICE_NAME) == "SERVING") == is_open
        if is_open:
            assert SERVICE_NAME in await reflected_services(channel)
        else:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reflected_services(channel)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_request_is_ended_by_its_own_tenant_alone(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    address = (await start(worker, api_keys_path=path)).gateway.address
    async with client_of(address, "a") as a, client_of(address, "b") as b:
        mine = Request("So:", request_id="same", limits=SHORT)  # type: ignore[arg-type]
        running = [asyncio.create_task(client.complete(mine)) for client in (a, b)]
        await poll_until(lambda: worker.num_running == 2)
        assert await b.cancel(mine.request_id)  # type: ignore[arg-type]
        await running[1]
        assert not await b.cancel(mine.request_id)  # type: ignore[arg-type]
        assert not running[0].done()
        assert await a.cancel(mine.request_id)  # type: ignore[arg-type]
        await running[0]


async def test_sessions_are_shown_to_their_tenant_and_to_operators(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    timelines = [
        pb.VerifyServiceGetSessionTimelineResponse(
            session=pb.SessionState(session_id=f"s-{tenant}", tenant=tenant)
        )
        for tenant in ("a", "b")
    ]
    worker = FakeVerifyWorker(completion_ids, timelines=timelines)
    address = (await start(worker, api_keys_path=path)).gateway.address

    async def seen_by(name: str) -> list[str]:
        async with client_of(address, name) as client:
            return sorted(each.session_id for each in (await client.list_sessions()).sessions)

    assert await seen_by("a") == ["s-a"]
    assert await seen_by("operator") == ["s-a", "s-b"]
    async with client_of(address, "a") as client:
        await client.session_timeline("s-a")  # type: ignore[arg-type]
        with pytest.raises(SessionNotFound):
            await client.session_timeline("s-b")  # type: ignore[arg-type]


async def test_keys_change_while_requests_run(
    start: StartCells, completion_ids: list[int], path: Path
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    gateway = (await start(worker, api_keys_path=path)).gateway
    async with client_of(gateway.address, "a") as client:
        request = Request("So:", limits=SHORT)
        running = asyncio.create_task(client.complete(request))
        await poll_until(lambda: worker.num_running == 1)

        async def is_let_in() -> bool:
            try:
                return bool((await client.models()).cells)
            except Unauthenticated:
                return False

        path.write_text("{broken")
        await gateway._keys.refresh()
        assert await is_let_in()
        write_key_file(path, (record("a", disabled=True),))
        await poll_until(lambda: _not(is_let_in))
        assert not running.done()
        write_key_file(path, (record("a"),))
        await poll_until(is_let_in)
        # Emptied is malformed: it must not open the gateway to everybody.
        path.write_text("")
        await gateway._keys.refresh()
        async with Client(gateway.address) as nobody:
            with pytest.raises(Unauthenticated):
                await nobody.models()
        assert await client.cancel(request.request_id)
        await running


async def _not(holds: object) -> bool:
    return not await holds()  # type: ignore[operator]


async def test_a_malformed_file_is_refused_at_start_with_all_faults(
    start: StartCells, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"name": "x"}\n{\n')
    with pytest.raises(SettingsError) as caught:
        await start(api_keys_path=bad)
    assert "line 1: tenant" in str(caught.value) and "line 2: no JSON" in str(caught.value)
    with pytest.raises(SettingsError, match="API_KEYS: line 1"):
        await start(api_keys="nothing")


async def test_keys_may_come_from_the_environment(
    start: StartCells, completion_ids: list[int]
) -> None:
    line = record("a").to_line()
    address = (await start(FakeVerifyWorker(completion_ids), api_keys=line)).gateway.address
    async with client_of(address, "a") as client, client_of(address, "b") as other:
        assert (await client.models()).cells
        with pytest.raises(Unauthenticated):
            await other.models()


async def test_what_is_too_large_is_said_to_be(
    start: StartCells, completion_ids: list[int]
) -> None:
    address = (await start(FakeVerifyWorker(completion_ids))).gateway.address
    async with Client(address) as client:
        with pytest.raises(InvalidRequest, match="larger than max"):
            await client.complete(Request("x" * (5 * 2**20)))
    async with Client(address, Access("k" * 100_000)) as client:
        with pytest.raises(InvalidRequest, match="metadata size exceeds"):
            await client.models()
    async with Client(address) as client:
        assert (await client.models()).cells
