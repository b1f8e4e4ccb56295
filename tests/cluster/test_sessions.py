"""What the controller is seen to do, in a stack of real processes."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import SessionNotFound
from shared.ids import SessionId
from shared.speculation.vocabulary import FinishReason
from shortstack.client import Client
from shortstack.request import PLAIN, Limits
from shortstack.sessions.values import SessionState
from shortstack.stack import Stack
from tests.cluster.streams import Streams, make_requests
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def states_of(client: Client, *, with_ended: bool = False) -> dict[str, SessionState]:
    """Return the sessions by id."""
    listed = await client.list_sessions(with_ended=with_ended)
    assert not listed.unanswered_cells
    return {each.session_id: each for each in listed.sessions}


async def test_running_sessions_are_seen_and_ended_ones_remembered(shared_client: Client) -> None:
    streams = Streams(shared_client, make_requests(3, max_new_tokens=500))
    streams.start()
    await poll_until(lambda: streams.are_all_running, timeout_s=60)
    ids = {builder.started.session_id for builder in streams.builders if builder.started}
    assert len(ids) == 3

    async def have_all_drafted() -> bool:
        running = await states_of(shared_client)
        assert set(running) == ids
        return all(state.num_draft_tokens for state in running.values())

    await poll_until(have_all_drafted)
    for state in (await states_of(shared_client)).values():
        assert not state.has_ended
        assert state.num_accepted_tokens <= state.num_draft_tokens
        assert state.tokens_per_s > 0
        assert state.reason

    completions = await streams.finish()

    async def all_ended() -> bool:
        return not await states_of(shared_client)

    await poll_until(all_ended)
    ended = await states_of(shared_client, with_ended=True)
    for completion in completions:
        state, counts = ended[completion.started.session_id], completion.speculation
        assert state.finish_reason is FinishReason.LENGTH
        assert state.cell_id == completion.started.cell_id
        assert state.num_emitted == len(completion.token_ids)
        # Clients count the token of the prefill as a plain round.
        assert state.num_plain_rounds == counts.num_plain_rounds - 1
        assert state.num_rounds == state.num_plain_rounds + counts.num_drafts
        assert state.num_draft_tokens == counts.num_draft_tokens
        assert state.num_accepted_tokens == counts.num_accepted_tokens
        assert state.mean_emitted_len == pytest.approx(counts.mean_emitted_len)


async def test_a_timeline_tells_every_round_of_a_short_session(shared_client: Client) -> None:
    (request,) = make_requests(1, max_new_tokens=60)
    completion = await shared_client.complete(request)
    told = await shared_client.session_timeline(completion.started.session_id)
    # The first token comes from the prefill, which is no round.
    assert 1 + sum(each.num_emitted for each in told.rounds) == len(completion.token_ids)
    assert sum(each.draft_len for each in told.rounds) == completion.speculation.num_draft_tokens
    position = completion.started.prompt_len + 1
    for index, each in enumerate(told.rounds, 1):
        assert (each.round_index, each.position) == (index, position)
        assert 0 <= each.num_accepted <= each.draft_len <= each.max_draft_len
        position += each.num_emitted
    assert all(each.round_ns > 0 for each in told.rounds)
    assert {each.method for each in told.rounds} <= {"layerskip", "off"}


async def test_plain_sessions_and_cancelled_ones_say_so(shared_client: Client) -> None:
    (request,) = make_requests(1)
    plain = replace(request, speculation=PLAIN, limits=Limits(20, ignore_eos=True))
    completion = await shared_client.complete(plain)
    told = await shared_client.session_timeline(completion.started.session_id)
    assert told.session.num_plain_rounds == told.session.num_rounds == 19
    assert {(each.method, each.draft_len) for each in told.rounds} == {("off", 0)}

    stream = shared_client.generate(make_requests(1, max_new_tokens=900)[0])
    started = await anext(stream)
    await stream.aclose()

    async def is_cancelled() -> bool:
        state = (await states_of(shared_client, with_ended=True)).get(started.session_id)  # type: ignore[union-attr]
        return state is not None and state.finish_reason is FinishReason.CANCELLED

    await poll_until(is_cancelled)


async def test_an_unknown_session_is_not_found(shared_client: Client) -> None:
    with pytest.raises(SessionNotFound, match="ses-nobody"):
        await shared_client.session_timeline(SessionId("ses-nobody"))


async def test_the_command_lists_and_draws(
    shared_stack: Stack, shared_client: Client, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    (request,) = make_requests(1, max_new_tokens=40)
    session_id = (await shared_client.complete(request)).started.session_id
    listed = json.loads(await run_command(shared_stack, "--ended", "--json"))
    assert session_id in {each["session_id"] for each in listed["sessions"]}
    told = await run_command(shared_stack, session_id)
    assert told.startswith(f"{session_id} on ")
    file = tmp_path / "session.png"
    await run_command(shared_stack, session_id, "--plot", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")


async def run_command(stack: Stack, *arguments: str) -> str:
    """Run `shortstack sessions` against a stack; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shortstack.cli", "sessions", "--target", stack.target, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()
