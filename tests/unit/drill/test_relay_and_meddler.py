"""What stands between peers passes all on, until it is told otherwise."""

import asyncio
import random
from pathlib import Path

import pytest

from shared.rpc import shortstack_pb2 as pb
from shortstack.drill.meddler import foreign, malformed
from shortstack.drill.relay import Relay


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, and `end` when the caller has nothing more to say."""
    while data := await reader.read(100):
        writer.write(data)
    writer.write(b"end")
    writer.close()


async def test_a_relay_passes_on_holds_halves_and_cuts(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(echo, tmp_path / "echo.sock")
    async with server, Relay(tmp_path / "relay.sock", tmp_path / "echo.sock") as relay:
        reader, writer = await asyncio.open_unix_connection(relay.listen)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"

        relay.hold()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(3), 0.05)
        relay.let_go()
        assert await reader.readexactly(3) == b"two"

        relay.garble_rate = 1.0
        writer.write(b"six")
        assert await reader.readexactly(3) != b"six"
        relay.garble_rate = 0.0

        relay.close_half()
        assert await reader.read() == b"end"
        writer.close()

        reader, writer = await asyncio.open_unix_connection(relay.listen)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        relay.cut()
        assert await reader.read() == b""
        writer.close()


async def test_a_relay_to_nobody_refuses_its_callers(tmp_path: Path) -> None:
    async with Relay(tmp_path / "relay.sock", tmp_path / "nobody.sock") as relay:
        reader, writer = await asyncio.open_unix_connection(relay.listen)
        assert await reader.read() == b""
        writer.close()
    assert not relay.listen.exists()


def test_no_draft_that_was_meddled_with_is_as_it_was() -> None:
    draft = pb.RoundDraft(session_id="s", round_index=3, draft_tokens=[1, 2], confidences=[0.5] * 2)
    response = pb.RoundResponse(batch_index=1, drafts=[draft] * 3)
    source = random.Random(1)
    for _ in range(20):
        assert all(each != draft for each in malformed(response, source).drafts)
    assert {each.session_id for each in foreign(response).drafts} == {"foreign-s"}
    assert all(each == draft for each in response.drafts), "the answer itself stays"
