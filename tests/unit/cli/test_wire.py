"""Requests and answers of the client, to and from the wire."""

import pytest

from shared.control.fair_queue import Priority
from shared.errors import Internal
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import FinishReason, SamplingParams, TokenSource
from shortstack.client import CompletionBuilder
from shortstack.commands.generate import summarize
from shortstack.events import Finished, Started, Tokens, event_from_proto
from shortstack.options import make_speculation
from shortstack.request import Limits, Request, Speculation, Turn


@pytest.mark.parametrize(
    ("prompt", "field"),
    [("text", "prompt"), ((1, 2), "token_ids"), ((Turn("user", "hi"),), "chat")],
)
def test_a_prompt_takes_the_field_of_its_kind(
    prompt: str | tuple[int, ...] | tuple[Turn, ...], field: str
) -> None:
    assert Request(prompt).to_proto().WhichOneof("input") == field


def test_wishes_that_were_not_uttered_stay_absent() -> None:
    message = Request("text").to_proto()
    for field in ("exit_layer", "max_draft_len", "stop_threshold"):
        assert not message.speculation.HasField(field)
    assert not message.HasField("num_logprobs")


def test_a_draft_length_of_zero_is_a_wish() -> None:
    message = Request("text", speculation=Speculation(max_draft_len=0)).to_proto()
    assert message.speculation.HasField("max_draft_len")


def test_flags_of_trees_are_wishes_of_their_own() -> None:
    given = make_speculation("swift", None, 4, None, tree_nodes=8, tree_width=3, tree_threshold=0.5)
    message = Request("text", speculation=given).to_proto().speculation
    assert (message.tree_nodes, message.tree_width, message.tree_threshold) == (8, 3, 0.5)
    chain = Request("text", speculation=make_speculation("swift", None, 4, None)).to_proto()
    assert not chain.speculation.HasField("tree_nodes")


def test_a_request_carries_its_options() -> None:
    request = Request(
        (5, 6),
        sampling=SamplingParams(temperature=0.5, seed=9),
        limits=Limits(max_new_tokens=7, stop_strings=("\n",), stop_token_ids=(3,)),
        speculation=Speculation(method="off", exit_layer=2, mode="force"),
        tenant="ann",
        priority=Priority.LOW,
        session_key="talk",
        task="letters",
    )
    message = request.to_proto()
    assert list(message.token_ids.ids) == [5, 6]
    assert (message.sampling.temperature, message.sampling.seed) == (0.5, 9)
    assert (message.stop.max_new_tokens, list(message.stop.stop_token_ids)) == (7, [3])
    assert list(message.stop_strings) == ["\n"]
    assert (message.speculation.method, message.speculation.exit_layer) == ("off", 2)
    assert (message.speculation.mode, message.tenant) == ("force", "ann")
    assert message.priority == pb.PRIORITY_LOW
    assert (message.session_key, message.task) == ("talk", "letters")


def test_a_stream_becomes_a_completion() -> None:
    builder = CompletionBuilder()
    sources = [pb.TOKEN_SOURCE_PLAIN, pb.TOKEN_SOURCE_ACCEPTED]
    messages = [
        pb.GenerateTextResponse(started=pb.GenerateTextStarted(prompt_len=3, seed=4)),
        pb.GenerateTextResponse(
            tokens=pb.GenerateTextTokens(text="ab", token_ids=[1, 2], sources=sources)
        ),
        pb.GenerateTextResponse(
            finished=pb.GenerateTextFinished(
                text="c",
                finish_reason=pb.FINISH_REASON_LENGTH,
                prompt_len=3,
                num_emitted=2,
                num_cached_tokens=2,
                num_preemptions=1,
            )
        ),
    ]
    events = [event_from_proto(message) for message in messages]
    assert [type(event) for event in events] == [Started, Tokens, Finished]
    assert [builder.add(event) for event in events] == ["", "ab", "c"]
    completion = builder.build()
    assert (completion.text, completion.token_ids) == ("abc", (1, 2))
    assert completion.sources == (TokenSource.PLAIN, TokenSource.ACCEPTED)
    assert completion.finished.finish_reason is FinishReason.LENGTH
    assert (completion.finished.num_cached_tokens, completion.finished.num_preemptions) == (2, 1)
    line = summarize(completion, Request("text"), 1.0)
    assert "2 of 3 prompt tokens cached · preempted 1x" in line


def test_a_stream_that_just_stops_is_an_error() -> None:
    with pytest.raises(Internal, match="without its first or last message"):
        CompletionBuilder().build()


def test_a_message_without_an_event_is_an_error() -> None:
    with pytest.raises(Internal, match="without an event"):
        event_from_proto(pb.GenerateTextResponse())
