"""Streams: events become messages, unread tokens are counted, errors end the call."""

from typing import Any

import pytest

from services.verify.session import Emitted, Finished, Moved, Started, Timings
from services.verify.streams import SessionStream
from shared.errors import QueueFull
from shared.ids import TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import (
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    FinishReason,
    SpeculationSummary,
    TokenSource,
)
from tests.engine_harness import make_request

MAX_UNREAD = 4


class Resumes:
    """Counts how often the engine was told to look again."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        """Count."""
        self.count += 1


def make_stream(on_resume: Resumes) -> SessionStream:
    return SessionStream(make_request([5], 10), 0, MAX_UNREAD, on_resume)


def tokens(*values: int, decision: Decision = PLAIN_DECISION) -> Emitted:
    ids = tuple(TokenId(value) for value in values)
    return Emitted(3, ids, (TokenSource.ACCEPTED,) * len(ids), (), decision, 2)


FINISHED = Finished(
    FinishReason.STOP,
    2,
    SpeculationSummary(1, 4, 3, 2, 4, [0, 0, 0, 1]),
    Timings(1, 2, 3, 4, 5),
)


async def read(stream: SessionStream) -> list[Any]:
    return [message async for message in stream.messages("cell-1")]


async def test_events_become_messages_in_order() -> None:
    stream = make_stream(Resumes())
    logprobs = ((-0.5, [(7, -0.5), (9, -1.0)]),)
    sent = Emitted(3, (TokenId(7),), (TokenSource.BONUS,), logprobs, Decision(LAYERSKIP, 2, 4), 4)
    for event in (Started(7), sent, FINISHED):
        stream.put(event)
    started, told, finished = await read(stream)
    assert started.started == pb.GenerateStarted(cell_id="cell-1", num_cached_tokens=7)
    assert told.tokens == pb.GenerateTokens(
        round_index=3,
        token_ids=[7],
        sources=[pb.TOKEN_SOURCE_BONUS],
        logprobs=[
            pb.TokenLogprobs(
                logprob=-0.5,
                top=[
                    pb.TopLogprob(token_id=7, logprob=-0.5),
                    pb.TopLogprob(token_id=9, logprob=-1),
                ],
            )
        ],
        method=LAYERSKIP,
        exit_layer=2,
        draft_len=4,
        reason="policy",
    )
    assert finished.finished.finish_reason == pb.FINISH_REASON_STOP
    assert finished.finished.stop_token_id == 2
    assert finished.finished.speculation == pb.SpeculationSummary(
        num_drafts=1,
        num_draft_tokens=4,
        num_accepted_tokens=3,
        num_plain_rounds=2,
        num_emitted_in_drafts=4,
        acceptance_histogram=[0, 0, 0, 1],
    )
    assert finished.finished.timings == pb.SessionTimings(
        queue_ns=1, prefill_ns=2, decode_ns=3, draft_ns=4, verify_ns=5
    )


async def test_a_session_that_must_move_is_told_so_and_its_stream_ends() -> None:
    stream = make_stream(Resumes())
    stream.put(Moved("draining"))
    stream.put(FINISHED)
    [message] = await read(stream)
    assert message.moved.reason == "draining"


async def test_an_error_ends_the_stream() -> None:
    stream = make_stream(Resumes())
    stream.put(QueueFull("full"))
    with pytest.raises(QueueFull):
        await read(stream)


async def test_unread_tokens_are_counted_and_a_paused_session_is_resumed_once() -> None:
    resumes = Resumes()
    stream = make_stream(resumes)
    unread = stream.session.num_unread
    for event in (tokens(1, 2), tokens(3), tokens(4, 5)):
        stream.put(event)
    assert unread() == 5
    messages = stream.messages("cell-1")
    await anext(messages)
    assert (unread(), resumes.count) == (5, 0), "read only when the next is asked for"
    await anext(messages)
    assert (unread(), resumes.count) == (3, 1)
    await anext(messages)
    stream.put(FINISHED)
    await anext(messages)
    assert (unread(), resumes.count) == (0, 1)
    await messages.aclose()


async def test_a_reader_that_keeps_up_never_wakes_the_engine() -> None:
    resumes = Resumes()
    stream = make_stream(resumes)
    messages = stream.messages("cell-1")
    for value in range(10):
        stream.put(tokens(value))
        await anext(messages)
    assert resumes.count == 0
    await messages.aclose()
