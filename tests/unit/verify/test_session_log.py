"""The session log: rings, sums, who is kept, and reading while the engine writes."""

import threading
from itertools import pairwise

import pytest

from services.verify.session import Session
from services.verify.session_log import MAX_ENDED, SessionLog
from services.verify.session_messages import rounds_to_proto, state_to_proto
from services.verify.session_track import MAX_ROUNDS, NUM_SPEED_ROUNDS
from shared.errors import SessionNotFound
from shared.ids import SessionId, TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import (
    LAYERSKIP,
    OFF,
    PLAIN_DECISION,
    Decision,
    FinishReason,
)
from shortstack.sessions.values import list_from_proto, timeline_from_proto
from tests.unit.verify.builders import make_session

DRAFT = Decision(LAYERSKIP, 2, 4, 0.5, reason="hold")
MS = 1_000_000
PROMPT_LEN = 3


def enter(log: SessionLog, session_id: str = "s", arrived_ns: int = 1000 * MS) -> Session:
    """Open a session that has just got its first token, by round 0, 10 ms after it came."""
    session = make_session(session_id, num_generated=1, arrived_ns=arrived_ns, tenant="ann")
    session.round_index = 1
    session.first_token_ns = arrived_ns + 10 * MS
    log.open(session, "goodput")
    return session


def play(
    log: SessionLog,
    session: Session,
    draft_len: int,
    num_accepted: int,
    *,
    now_ms: int,
    decision: Decision = DRAFT,
    is_alarm: bool = False,
) -> None:
    """Commit a round, as the engine does, and note it; now_ms counts from the session's arrival."""
    session.tokens += [TokenId(9)] * (num_accepted + 1)
    session.round_index += 1
    now_ns = session.arrived_ns + now_ms * MS
    log.note(
        session, decision, draft_len, num_accepted, num_accepted + 1, now_ns, is_alarm=is_alarm
    )


def test_a_round_is_kept_as_it_was() -> None:
    log = SessionLog()
    session = enter(log)
    play(log, session, 4, 3, now_ms=30)
    play(log, session, 0, 0, now_ms=45, decision=PLAIN_DECISION, is_alarm=True)
    _, (first, second) = log.timeline(SessionId("s"))
    assert (first.round_index, first.position, first.decision) == (1, PROMPT_LEN + 1, DRAFT)
    assert (first.draft_len, first.num_accepted, first.num_emitted) == (4, 3, 4)
    # The first round begins with the first token, the next one with the commit before it.
    assert (first.at_ns, first.round_ns, first.is_alarm) == (30 * MS, 20 * MS, False)
    assert (second.round_index, second.position) == (2, PROMPT_LEN + 5)
    assert (second.at_ns, second.round_ns, second.is_alarm) == (45 * MS, 15 * MS, True)


def test_totals_count_plain_rounds_apart() -> None:
    log = SessionLog()
    session = enter(log)
    play(log, session, 4, 3, now_ms=20)
    play(log, session, 2, 0, now_ms=30)
    play(log, session, 0, 0, now_ms=40)
    (state,) = log.states()
    assert (state.session_id, state.tenant, state.policy) == ("s", "ann", "goodput")
    assert (state.prompt_len, state.num_emitted) == (PROMPT_LEN, 1 + 4 + 1 + 1)
    totals = state.totals
    assert (totals.num_rounds, totals.num_plain_rounds) == (3, 1)
    assert (totals.num_draft_tokens, totals.num_accepted_tokens) == (6, 3)
    assert state.mean_emitted_len == 2.5
    assert state.tokens_per_s == pytest.approx(6 / 0.030)


def test_before_its_first_round_a_session_shows_its_wish() -> None:
    log = SessionLog()
    session = enter(log)
    (state,) = log.states()
    assert state.decision.exit_layer == session.request.wished.exit_layer
    assert (state.decision.reason, state.tokens_per_s, state.mean_emitted_len) == ("", 0.0, 0.0)
    assert state.num_emitted == 1


def test_an_ended_session_shows_what_was_decided_before_its_end_cut_rounds_short() -> None:
    log = SessionLog()
    session = enter(log)
    cut = DRAFT.cut(1, 1, "limit")
    play(log, session, 1, 1, now_ms=30, decision=cut)
    assert log.states()[0].decision == cut
    log.end(session, FinishReason.LENGTH)
    assert log.states(with_ended=True)[0].decision == cut
    longer = enter(log, "longer")
    play(log, longer, 4, 3, now_ms=30)
    play(log, longer, 1, 1, now_ms=40, decision=cut)
    assert log.states()[0].decision == cut
    log.end(longer, FinishReason.LENGTH)
    assert log.states(with_ended=True)[0].decision == DRAFT


def test_the_ring_keeps_the_last_rounds_and_the_totals_all() -> None:
    log = SessionLog()
    session = enter(log)
    for index in range(MAX_ROUNDS + 10):
        play(log, session, 2, 1, now_ms=20 + index)
    state, rounds = log.timeline(SessionId("s"))
    assert [each.round_index for each in rounds] == list(range(11, MAX_ROUNDS + 11))
    assert state.totals.num_rounds == MAX_ROUNDS + 10
    assert rounds[-1].position + rounds[-1].num_emitted == len(session.tokens)


def test_speed_is_that_of_the_last_rounds() -> None:
    log = SessionLog()
    session = enter(log)
    play(log, session, 4, 3, now_ms=10_000)
    for index in range(NUM_SPEED_ROUNDS):
        play(log, session, 2, 1, now_ms=10_000 + 5 * (index + 1))
    assert log.states()[0].tokens_per_s == pytest.approx(2 / 0.005)


def test_a_session_that_lost_its_pages_goes_on_where_it_was() -> None:
    log = SessionLog()
    session = enter(log)
    play(log, session, 4, 3, now_ms=20)
    # It comes back: its replay committed a token that belongs to no round.
    log.open(session)
    session.tokens.append(TokenId(9))
    play(log, session, 4, 3, now_ms=60)
    (state,) = log.states()
    assert (state.totals.num_rounds, state.policy) == (2, "goodput")
    _, rounds = log.timeline(SessionId("s"))
    assert [each.position for each in rounds] == [PROMPT_LEN + 1, PROMPT_LEN + 6]


def test_ended_sessions_are_listed_when_asked_for_and_dropped_oldest_first() -> None:
    log = SessionLog()
    for index in range(MAX_ENDED + 2):
        session = enter(log, f"s{index}")
        play(log, session, 4, 3, now_ms=20)
        log.end(session, FinishReason.LENGTH)
    running = enter(log, "running")
    assert [each.session_id for each in log.states()] == ["running"]
    listed = [each.session_id for each in log.states(with_ended=True)]
    assert listed == ["running", *(f"s{index}" for index in range(MAX_ENDED + 1, 1, -1))]
    with pytest.raises(SessionNotFound, match="no session 's1'"):
        log.timeline(SessionId("s1"))
    state, rounds = log.timeline(SessionId("s2"))
    assert (state.finish_reason, len(rounds)) == (FinishReason.LENGTH, 1)
    log.end(running, FinishReason.CANCELLED)
    assert log.states() == []


def test_sessions_with_one_id_are_kept_apart() -> None:
    log = SessionLog()
    old, new = enter(log, "s", arrived_ns=1), enter(log, "s", arrived_ns=2)
    play(log, new, 4, 3, now_ms=20)
    assert [each.totals.num_rounds for each in log.states()] == [0, 1]
    log.end(old, FinishReason.STOP)
    assert log.timeline(SessionId("s"))[0].finish_reason is None
    log.end(new, FinishReason.STOP)
    # The last that ended.
    assert len(log.timeline(SessionId("s"))[1]) == 1


def test_a_session_that_never_began_leaves_nothing() -> None:
    log = SessionLog()
    log.end(make_session("s"), FinishReason.CANCELLED)
    assert log.states(with_ended=True) == []


def test_a_note_without_an_open_session_is_a_fault() -> None:
    log = SessionLog()
    with pytest.raises(KeyError):
        log.note(make_session(num_generated=1), DRAFT, 4, 3, 4, 0)


def test_reading_while_writing_sees_whole_rounds_in_order() -> None:
    log = SessionLog()
    is_done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not is_done.is_set():
                states = log.states(with_ended=True)
                assert len({id(each) for each in states}) == len(states)
                for state in states:
                    totals = state.totals
                    assert totals.num_accepted_tokens * 2 == totals.num_draft_tokens
                    assert totals.num_emitted_in_drafts == 2 * totals.num_rounds
                    _, rounds = log.timeline(state.session_id)
                    assert all(
                        later.round_index == earlier.round_index + 1
                        for earlier, later in pairwise(rounds)
                    )
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for index in range(40):
        session = enter(log, f"s{index}")
        for round_ in range(600):
            play(log, session, 2, 1, now_ms=20 + round_)
        log.end(session, FinishReason.LENGTH)
    is_done.set()
    for reader in readers:
        reader.join()
    assert not failures, failures


def test_what_the_log_says_arrives_at_the_client() -> None:
    log = SessionLog()
    session = enter(log)
    play(log, session, 4, 3, now_ms=30)
    play(log, session, 0, 0, now_ms=45, decision=PLAIN_DECISION)
    play(log, session, 2, 1, now_ms=60, is_alarm=True)
    log.end(session, FinishReason.STOP)
    state, rounds = log.timeline(SessionId("s"))
    message = state_to_proto(state, "cell-1", session.arrived_ns + 5_500 * MS, 10**18)
    (read,) = list_from_proto(pb.ListSessionsResponse(sessions=[message])).sessions
    assert (read.session_id, read.cell_id, read.tenant) == ("s", "cell-1", "ann")
    assert (read.method, read.exit_layer, read.max_draft_len) == (LAYERSKIP, 2, 4)
    assert (read.stop_threshold, read.policy, read.reason) == (0.5, "goodput", "hold")
    assert (read.num_emitted, read.num_rounds, read.num_plain_rounds) == (8, 3, 1)
    assert (read.num_draft_tokens, read.num_accepted_tokens) == (6, 4)
    assert (read.mean_emitted_len, read.age_ms) == (3.0, 5_500)
    assert message.arrived_unix_ns == 10**18 - 5_500 * MS
    assert (read.finish_reason, read.has_ended) == (FinishReason.STOP, True)
    timeline = timeline_from_proto(
        pb.GetSessionTimelineResponse(session=message, rounds=rounds_to_proto(rounds))
    )
    assert [each.method for each in timeline.rounds] == [LAYERSKIP, OFF, LAYERSKIP]
    assert [each.reason for each in timeline.rounds] == ["hold", "policy", "hold"]
    assert [each.is_alarm for each in timeline.rounds] == [False, False, True]
    for sent, got in zip(rounds, timeline.rounds, strict=True):
        for name in ("round_index", "position", "at_ns", "round_ns", "draft_len", "num_accepted"):
            assert getattr(got, name) == getattr(sent, name)
        assert got.num_emitted == sent.num_emitted
        for name in ("exit_layer", "max_draft_len", "stop_threshold"):
            assert getattr(got, name) == getattr(sent.decision, name)
