"""Metrics of requests: each request once, by how it ended."""

from dataclasses import replace

import pytest

from services.gateway.request_metrics import RequestEnd, RequestMetrics
from shared.errors import InvalidRequest

FINISHED = RequestEnd(
    operation="chat",
    status="OK",
    finish_reason="stop",
    error_type="",
    has_begun=True,
    queue_s=0.1,
    first_token_s=0.5,
    duration_s=2.5,
    prompt_len=10,
    num_cached=4,
    num_emitted=11,
    num_drafted=8,
    num_accepted=6,
    num_replays=1,
)
REFUSED = replace(
    FINISHED,
    status="RESOURCE_EXHAUSTED",
    finish_reason="",
    error_type="QueueFull",
    has_begun=False,
    queue_s=None,
    first_token_s=None,
    num_emitted=0,
    num_replays=0,
)


def test_a_finished_request_tells_its_times_and_tokens() -> None:
    metrics = RequestMetrics()
    metrics.note_end(FINISHED)
    assert metrics.requests == {("OK", "stop"): 1}
    assert metrics.replays == {"finished": 1, "failed": 0, "cancelled": 0}
    assert not metrics.refused
    expected = {"prompt": 10, "cached": 4, "emitted": 11, "drafted": 8, "accepted": 6}
    assert metrics.tokens == expected
    assert metrics.queue_s.total == pytest.approx(0.1)
    assert metrics.duration_s["chat", ""].total == pytest.approx(2.5)
    assert metrics.first_token_s["chat"].total == pytest.approx(0.5)
    assert metrics.per_token_s["chat"].total == pytest.approx(0.2)
    assert metrics.first_token_s["text_completion"].count == 0


def test_one_token_has_no_time_per_token() -> None:
    metrics = RequestMetrics()
    metrics.note_end(replace(FINISHED, num_emitted=1))
    assert metrics.first_token_s["chat"].count == 1
    assert metrics.per_token_s["chat"].count == 0


def test_a_refused_request_is_counted_by_its_error() -> None:
    metrics = RequestMetrics()
    metrics.note_end(REFUSED)
    assert metrics.requests == {("RESOURCE_EXHAUSTED", "none"): 1}
    assert metrics.refused == {"QueueFull": 1}
    assert metrics.duration_s["chat", "QueueFull"].count == 1
    assert metrics.queue_s.count == metrics.first_token_s["chat"].count == 0


def test_an_error_in_the_middle_is_no_refusal() -> None:
    metrics = RequestMetrics()
    metrics.note_end(replace(REFUSED, error_type="NoCell", has_begun=True, num_replays=2))
    assert not metrics.refused
    assert metrics.replays["failed"] == 2


@pytest.mark.parametrize("reason", ["cancelled", "slow_reader"])
def test_a_request_that_somebody_ended_is_cancelled(reason: str) -> None:
    metrics = RequestMetrics()
    metrics.note_end(replace(FINISHED, finish_reason=reason))
    assert metrics.replays["cancelled"] == 1


def test_a_request_that_is_malformed_is_counted_and_refused() -> None:
    metrics = RequestMetrics()
    with pytest.raises(InvalidRequest), metrics.refusals_counted():
        raise InvalidRequest("prompt must not be empty", field="prompt")
    assert metrics.requests == {("INVALID_ARGUMENT", "none"): 1}
    assert metrics.refused == {"InvalidRequest": 1}
