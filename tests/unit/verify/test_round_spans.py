"""Round spans: made of timings, one behind the other, in the tree that they belong to."""

import pytest

from services.verify.round_spans import (
    PassTimes,
    RoundTimes,
    SessionTimes,
    SessionTrace,
    source_of,
    spans_of_pass,
    spans_of_session,
)
from shared.control.steps import RoundOutcome
from shared.speculation.vocabulary import (
    PLAIN_DECISION,
    Decision,
    FinishReason,
    SpeculationSummary,
    TokenSource,
)
from shared.telemetry import spans
from shared.telemetry.past_span import NO_PARENT, PastSpan, SpanKey

TRACE = SessionTrace(trace_id=7, generate_id=8, decode_id=9)
DRAFTING = Decision("layerskip", 2, 4, 0.5, "probe")


def round_of(
    outcome: RoundOutcome, draft: tuple[int, int] = (120, 30), span_id: int = 11
) -> RoundTimes:
    """Return a round of session 9 that was ordered at 100."""
    return RoundTimes(SpanKey(7, span_id), 9, 5, outcome, 100, *draft)


def pass_of(*rounds: RoundTimes) -> PassTimes:
    """Return a pass from 160 to 200, committed at 205."""
    return PassTimes(3, 160, 200, 205, 2, 8, 1, rounds)


def by_name(made: list[PastSpan]) -> dict[str, PastSpan]:
    """Return spans by name."""
    return {each.spec.name: each for each in made}


@pytest.mark.parametrize("drafts_here", [True, False])
def test_a_round_with_a_draft_has_four_parts_in_a_row(drafts_here: bool) -> None:
    times = pass_of(round_of(RoundOutcome("s", DRAFTING, 4, 2, 3)))
    made = by_name(list(spans_of_pass(times, drafts_here=drafts_here)))
    parts = {
        name: (each.start_ns, each.end_ns)
        for name, each in made.items()
        if each.parent_id == 11 and each.key.trace_id == 7
    }
    expected = {"hand_over": (150, 160), "verify": (160, 200), "commit": (200, 205)}
    # A draft worker tells of its drafts itself.
    assert parts == expected | ({"draft": (120, 150)} if drafts_here else {})
    round_ = made["round"]
    assert (round_.start_ns, round_.end_ns, round_.parent_id) == (100, 205, 9)
    assert round_.attributes == {
        spans.ROUND_INDEX: 5,
        spans.METHOD: "layerskip",
        spans.EXIT_LAYER: 2,
        spans.MAX_DRAFT_LEN: 4,
        spans.STOP_THRESHOLD: 0.5,
        spans.DRAFT_LEN: 4,
        spans.ROUND_ACCEPTED: 2,
        spans.ROUND_EMITTED: 3,
        spans.SOURCE: "recovered",
        spans.REASON: "probe",
    }


def test_a_pass_is_a_trace_of_its_own_linked_both_ways() -> None:
    rounds = [round_of(RoundOutcome("s", DRAFTING, 4, 2, 3), span_id=each) for each in (11, 12)]
    made = list(spans_of_pass(pass_of(*rounds), drafts_here=False))
    in_pass = made[0]
    assert in_pass.spec is spans.PASS
    assert in_pass.parent_id == NO_PARENT
    assert in_pass.key.trace_id != 7
    assert in_pass.links == (SpanKey(7, 11), SpanKey(7, 12))
    verifies = [each for each in made if each.spec is spans.VERIFY_SPAN]
    assert [each.links for each in verifies] == [(in_pass.key,)] * 2
    assert in_pass.attributes == {
        spans.PASS_INDEX: 3,
        spans.PASS_SESSIONS: 2,
        spans.PASS_ROWS: 8,
        spans.PASS_PREFILL_ROWS: 1,
    }


def test_a_plain_round_and_one_that_lost_its_draft_have_no_draft() -> None:
    plain = round_of(RoundOutcome("s", PLAIN_DECISION, 0, 0, 1), (0, 0))
    lost = round_of(RoundOutcome("s", DRAFTING, 0, 0, 1), (0, 0), span_id=12)
    made = list(spans_of_pass(pass_of(plain, lost), drafts_here=True))
    names = ["pass", *["round", "verify", "commit"] * 2]
    assert [each.spec.name for each in made] == names
    assert spans.IS_DRAFT_LOST not in made[1].attributes
    assert made[4].attributes[spans.IS_DRAFT_LOST] is True


def test_a_hand_over_never_ends_before_it_began() -> None:
    # Clocks of two cores may differ by a little.
    times = pass_of(round_of(RoundOutcome("s", DRAFTING, 1, 1, 2), (120, 45)))
    hand_over = by_name(list(spans_of_pass(times, drafts_here=False)))["hand_over"]
    assert (hand_over.start_ns, hand_over.end_ns) == (165, 165)


@pytest.mark.parametrize(
    ("num_drafted", "num_accepted", "num_emitted", "source"),
    [
        (0, 0, 1, TokenSource.PLAIN),
        (4, 0, 1, TokenSource.RECOVERED),
        (4, 3, 4, TokenSource.RECOVERED),
        (4, 4, 5, TokenSource.BONUS),
        # Cut by the end of the session, which a draft was.
        (4, 3, 3, TokenSource.ACCEPTED),
        (4, 4, 4, TokenSource.ACCEPTED),
    ],
)
def test_the_source_is_that_of_the_last_token(
    num_drafted: int, num_accepted: int, num_emitted: int, source: TokenSource
) -> None:
    assert source_of(RoundOutcome("s", DRAFTING, num_drafted, num_accepted, num_emitted)) is source


def test_an_order_names_the_round_to_the_draft_worker_once() -> None:
    trace = SessionTrace(7, 8, 9)
    traceparent = trace.order(100)
    key, started_ns = trace.take_round(130)
    assert traceparent == f"00-{7:032x}-{key.span_id:016x}-01"
    assert started_ns == 100
    # The next round is a plain one: it has an id of its own, and begins where it was planned.
    other, started_ns = trace.take_round(230)
    assert other.span_id != key.span_id
    assert started_ns == 230


def test_a_forgotten_order_is_no_part_of_the_next_round() -> None:
    trace = SessionTrace(7, 8, 9)
    trace.order(100)
    trace.forget_order()
    assert trace.take_round(500)[1] == 500


def session_of(admitted_ns: int, first_token_ns: int) -> SessionTimes:
    """Return a session from 10 to 90."""
    summary = SpeculationSummary(num_drafts=2, num_draft_tokens=6, num_plain_rounds=1)
    reason = FinishReason.LENGTH
    return SessionTimes(TRACE, 10, admitted_ns, first_token_ns, 90, 5, 3, 1, 8, summary, reason)


@pytest.mark.parametrize(
    ("admitted_ns", "first_token_ns", "stages"),
    [
        (20, 40, {"queue": (10, 20), "prefill": (20, 40), "decode": (40, 90)}),
        (20, 0, {"queue": (10, 20), "prefill": (20, 90)}),
        (0, 0, {"queue": (10, 90)}),
    ],
)
def test_a_session_has_the_stages_that_it_came_to(
    admitted_ns: int, first_token_ns: int, stages: dict[str, tuple[int, int]]
) -> None:
    made = by_name(list(spans_of_session(session_of(admitted_ns, first_token_ns))))
    assert {name: (each.start_ns, each.end_ns) for name, each in made.items()} == stages
    assert {(each.key.trace_id, each.parent_id) for each in made.values()} == {(7, 8)}


def test_the_decode_stage_sums_the_rounds_up() -> None:
    decode = by_name(list(spans_of_session(session_of(20, 40))))["decode"]
    assert decode.key.span_id == TRACE.decode_id
    assert decode.attributes == {
        spans.NUM_ROUNDS: 3,
        spans.NUM_PLAIN_ROUNDS: 1,
        spans.NUM_DRAFT_TOKENS: 6,
        spans.NUM_ACCEPTED: 0,
        spans.NUM_EMITTED: 8,
        spans.NUM_PREEMPTIONS: 1,
        spans.FINISH_REASON: "length",
    }
