"""Requests are checked before any work, and a fault names its field."""

import math
from typing import Any

import pytest

from services.gateway.chat import ChatTurn
from services.gateway.request import RequestLimits, check_request, fit_to_context
from services.gateway.tokenizer import ModelLimits
from shared.control.fair_queue import Priority
from shared.errors import InvalidRequest, ModelNotFound
from shared.rpc import shortstack_pb2 as pb

LIMITS = RequestLimits(
    model_name="small",
    model=ModelLimits(vocab_size=100, max_context_len=50),
    default_max_new_tokens=16,
    max_new_tokens=40,
)


def message(**fields: Any) -> pb.GenerateTextRequest:
    """Return a request that is right but for the given fields."""
    if not {"token_ids", "chat"} & fields.keys():
        fields.setdefault("prompt", "Once")
    return pb.GenerateTextRequest(**fields)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"token_ids": {"ids": []}}, "token_ids"),
        ({"token_ids": {"ids": [1, 100]}}, "token_ids"),
        ({"chat": {"messages": []}}, "chat"),
        ({"chat": {"messages": [{"role": "tool", "content": "x"}]}}, "chat.role"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": "line\nbreak"}, "request_id"),
        ({"request_id": "näme"}, "request_id"),
        ({"stop": {"max_new_tokens": 41}}, "stop.max_new_tokens"),
        ({"stop": {"stop_token_ids": [100]}}, "stop.stop_token_ids"),
        ({"stop_strings": ["a", ""]}, "stop_strings"),
        ({"stop_strings": ["a"] * 17}, "stop_strings"),
        ({"stop_strings": ["a" * 1025]}, "stop_strings"),
        ({"num_logprobs": 21}, "num_logprobs"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
        ({"sampling": {"temperature": math.nan}}, "sampling.temperature"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p"),
        ({"sampling": {"min_p": 2}}, "sampling.min_p"),
        ({"sampling": {"repetition_penalty": 0}}, "sampling.repetition_penalty"),
        ({"sampling": {"presence_penalty": 3}}, "sampling.presence_penalty"),
        ({"sampling": {"logit_bias": {100: 1.0}}}, "sampling.logit_bias"),
        ({"speculation": {"stop_threshold": 1.5}}, "speculation.stop_threshold"),
        ({"speculation": {"mode": "maybe"}}, "speculation.mode"),
        ({"tenant": "x" * 65}, "tenant"),
        ({"tenant": "line\nbreak"}, "tenant"),
        ({"priority": 7}, "priority"),
        ({"session_key": "x" * 129}, "session_key"),
        ({"session_key": "line\nbreak"}, "session_key"),
        ({"task": "x" * 65}, "task"),
        ({"task": "tab\tulator"}, "task"),
    ],
)
def test_a_faulty_request_is_refused_by_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(message(**fields), LIMITS)
    assert caught.value.field == field
    assert field in caught.value.message


def test_a_request_without_input_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="prompt is missing"):
        check_request(pb.GenerateTextRequest(), LIMITS)


def test_another_model_is_not_found() -> None:
    with pytest.raises(ModelNotFound, match="'large' is not served; 'small' is"):
        check_request(message(model="large"), LIMITS)
    assert check_request(message(model="small"), LIMITS).model_name == "small"
    assert check_request(message(), LIMITS).model_name == "small"


def test_every_kind_of_input_is_taken() -> None:
    assert check_request(message(prompt="Once"), LIMITS).prompt == "Once"
    assert check_request(message(token_ids={"ids": [1, 2]}), LIMITS).prompt == (1, 2)
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert check_request(message(chat=chat), LIMITS).prompt == (ChatTurn("user", "Hi"),)


def test_a_seed_is_drawn_only_where_there_is_sampling_and_none_was_given() -> None:
    def seed_of(**sampling: Any) -> int:
        return check_request(message(sampling=sampling), LIMITS).sampling.seed

    assert seed_of(temperature=0.0) == 0
    assert seed_of(temperature=1.0, seed=7) == 7
    assert seed_of(temperature=1.0, seed=0) == 0
    drawn = {seed_of(temperature=1.0) for _ in range(8)}
    assert len(drawn) == 8
    assert max(drawn) > 2**32


def test_who_asks_and_how_urgently_is_read() -> None:
    plain = check_request(message(), LIMITS)
    assert (plain.tenant, plain.priority) == ("", Priority.NORMAL)
    given = check_request(message(tenant="Zoë & sons", priority=pb.PRIORITY_LOW), LIMITS)
    assert (given.tenant, given.priority) == ("Zoë & sons", Priority.LOW)
    assert check_request(message(speculation={"mode": "force"}), LIMITS).speculation == (
        pb.SpeculationParams(mode="force")
    )


def test_what_helps_to_learn_is_read() -> None:
    plain = check_request(message(), LIMITS)
    assert (plain.session_key, plain.task) == ("", "")
    given = check_request(message(session_key="x" * 128, task="Übersetzung"), LIMITS)
    assert (given.session_key, given.task) == ("x" * 128, "Übersetzung")


def test_absent_logprobs_differ_from_none_wanted_besides_the_tokens_own() -> None:
    assert check_request(message(), LIMITS).num_logprobs is None
    assert check_request(message(num_logprobs=0), LIMITS).num_logprobs == 0


@pytest.mark.parametrize(
    ("wanted", "prompt_len", "expected"),
    [(0, 10, 16), (0, 40, 10), (5, 10, 5), (40, 10, 40), (10, 40, 10)],
)
def test_the_limit_of_new_tokens_is_the_one_asked_for_or_the_default_that_fits(
    wanted: int, prompt_len: int, expected: int
) -> None:
    request = check_request(message(stop={"max_new_tokens": wanted}), LIMITS)
    assert fit_to_context(request, prompt_len, LIMITS).max_new_tokens == expected


@pytest.mark.parametrize(
    ("stop", "prompt_len", "field", "text"),
    [
        ({}, 0, "prompt", "empty"),
        ({}, 50, "prompt", "has 50 tokens; at most 49"),
        ({"max_new_tokens": 11}, 40, "stop.max_new_tokens", "of 40 tokens; the context holds 50"),
        ({"max_new_tokens": 3, "min_new_tokens": 4}, 1, "stop.min_new_tokens", "is 4"),
    ],
)  # fmt: skip
def test_lengths_that_do_not_fit_are_named(
    stop: dict[str, int], prompt_len: int, field: str, text: str
) -> None:
    request = check_request(message(stop=stop), LIMITS)
    with pytest.raises(InvalidRequest, match=text) as caught:
        fit_to_context(request, prompt_len, LIMITS)
    assert caught.value.field == field
