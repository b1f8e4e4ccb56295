"""The waiting room: order, fairness, refusals and their retry delays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verify.session import Session
from services.verify.waiting_room import (
    AGEING_S,
    MIN_RETRY_DELAY_MS,
    NS_PER_S,
    AdmissionLimits,
    WaitingRoom,
)
from shared.control.fair_queue import Priority
from shared.errors import InvalidRequest, PoolExhausted, QueueFull
from tests.unit.verify.builders import make_memory, make_session

NORMAL, LOW = Priority.NORMAL, Priority.LOW
TIMEOUT_MS = 2_000


def make_room(
    num_pages: int = 64, max_sessions: int = 8, max_waiting: int = 8, timeout_ms: int = TIMEOUT_MS
) -> WaitingRoom:
    """Return a waiting room in front of pages of one position."""
    memory = make_memory(num_pages, 1, max_sessions, "off")
    return WaitingRoom(AdmissionLimits(max_sessions, max_waiting, timeout_ms), memory)


def session_of(
    name: str,
    arrived_ns: int = 0,
    *,
    tenant: str = "",
    priority: Priority = NORMAL,
    prompt_len: int = 3,
    max_new: int = 5,
) -> Session:
    return make_session(
        name,
        [len(name)] * prompt_len,
        max_new,
        tenant=tenant,
        priority=priority,
        arrived_ns=arrived_ns,
    )


def names(sessions: list[Session]) -> list[str]:
    return [session.request.session_id for session in sessions]


def test_new_sessions_are_admitted_in_order_of_arrival_normal_ones_first() -> None:
    room = make_room()
    for name, priority in (("a", LOW), ("b", NORMAL), ("c", LOW), ("d", NORMAL)):
        room.enter(session_of(name, priority=priority), 0)
    assert names(room.admit(0, now_ns=1)) == ["b", "d", "a", "c"]
    assert len(room) == 0


def test_low_priority_counts_as_normal_behind_a_long_wait() -> None:
    aged_ns = int(AGEING_S * NS_PER_S)
    for now_ns, expected in ((aged_ns - 1, ["new", "low"]), (aged_ns, ["low", "new"])):
        room = make_room()
        room.enter(session_of("low", priority=LOW), 0)
        room.enter(session_of("new", aged_ns - 1), 0)
        assert names(room.admit(0, now_ns)) == expected


def test_tenants_take_turns_by_tokens() -> None:
    room = make_room()
    for index in range(3):
        room.enter(session_of(f"ann{index}", tenant="ann", max_new=5), 0)
    for index in range(2):
        # As many tokens as two of ann's.
        room.enter(session_of(f"bob{index}", tenant="bob", max_new=13), 0)
    assert names(room.admit(0, now_ns=1)) == ["ann0", "ann1", "bob0", "ann2", "bob1"]


def test_those_put_back_come_before_all_new_ones_by_age_whatever_their_priority() -> None:
    room = make_room()
    room.enter(session_of("new", 1), 0)
    room.put_back(session_of("younger", 7))
    room.put_back(session_of("older", 3, priority=LOW))
    room.put_back(session_of("youngest", 9))
    assert names(list(room)) == ["older", "younger", "youngest", "new"]
    assert names(room.admit(0, now_ns=10)) == ["older", "younger", "youngest", "new"]


def test_nobody_overtakes_whoever_has_no_room_yet() -> None:
    room = make_room(num_pages=10)
    room.put_back(session_of("large", prompt_len=10, max_new=0))
    room.enter(session_of("small", prompt_len=1, max_new=1), 0)
    assert room.admit(1, now_ns=1) == []
    room = make_room(num_pages=10, max_sessions=3)
    room.enter(session_of("large", prompt_len=8, max_new=2), 0)
    room.enter(session_of("small", prompt_len=1, max_new=1), 0)
    assert room.admit(2, now_ns=1) == [], "a page for each that runs is left over"
    assert names(room.admit(1, now_ns=1)) == ["large"]


def test_every_running_session_leaves_a_page_over() -> None:
    room = make_room(num_pages=14, max_sessions=9)
    for index in range(5):
        room.enter(session_of(f"s{index}", prompt_len=2), 0)
    # Three pages each, and one to spare for each before: 3, 6 + 1, 9 + 2, 12 + 3.
    assert len(room.admit(0, now_ns=1)) == 3
    assert len(room) == 2


def test_there_are_never_more_sessions_than_allowed() -> None:
    room = make_room(max_sessions=3)
    for index in range(5):
        room.enter(session_of(f"s{index}"), 0)
    assert len(room.admit(1, now_ns=1)) == 2
    assert room.admit(3, now_ns=2) == []


def test_only_sessions_that_were_never_admitted_are_refused_late() -> None:
    room = make_room()
    room.put_back(session_of("back", 0))
    room.enter(session_of("late", 0), 0)
    room.enter(session_of("later", 5 * NS_PER_S), 0)
    limit_ns = TIMEOUT_MS * 1_000_000
    assert room.refuse_late(limit_ns) == []
    [(session, error)] = room.refuse_late(limit_ns + 1)
    assert session.request.session_id == "late"
    assert isinstance(error, PoolExhausted)
    assert error.retry_delay_ms >= MIN_RETRY_DELAY_MS
    assert names(list(room)) == ["back", "later"]
    assert [names([each]) for each, _ in room.refuse_late(60 * NS_PER_S)] == [["later"]]
    assert names(list(room)) == ["back"]


def test_what_can_never_fit_is_refused_before_it_waits() -> None:
    room = make_room(num_pages=10)
    with pytest.raises(InvalidRequest):
        room.enter(session_of("s", prompt_len=6, max_new=5), 0)
    assert len(room) == 0


def test_a_full_room_refuses_the_newest_of_whoever_has_most_waiting() -> None:
    room = make_room(max_waiting=3)
    heavy = [
        session_of("heavy-low", tenant="ann", priority=LOW),
        session_of("heavy-old", tenant="ann"),
        session_of("heavy-new", tenant="ann"),
    ]
    for session in heavy:
        assert room.enter(session, 8) == []
    # Low ones go first, then the newest.
    for expected in ("heavy-low", "heavy-new"):
        light = session_of(f"for {expected}", tenant=f"bob {expected}")
        [(victim, error)] = room.enter(light, 8)
        assert victim.request.session_id == expected
        assert isinstance(error, QueueFull) and error.retry_delay_ms >= MIN_RETRY_DELAY_MS
        assert light in list(room)
    # Nobody has more waiting than the one who comes now: it is refused itself.
    with pytest.raises(QueueFull):
        room.enter(session_of("one more", tenant="cem"), 8)
    with pytest.raises(QueueFull):
        room.enter(session_of("one more", tenant="ann"), 8)
    assert len(room) == 3


def test_a_room_without_places_lets_through_whom_there_is_room_for_at_once() -> None:
    room = make_room(max_sessions=2, max_waiting=0)
    assert room.enter(session_of("a"), 1) == []
    assert names(room.admit(1, now_ns=1)) == ["a"]
    with pytest.raises(QueueFull):
        room.enter(session_of("b"), 2)


def test_those_put_back_do_not_take_the_places_of_new_ones() -> None:
    room = make_room(max_waiting=1)
    for index in range(3):
        room.put_back(session_of(f"back{index}", index))
    assert room.enter(session_of("new"), 0) == []
    with pytest.raises(QueueFull):
        room.enter(session_of("another"), 0)


def test_cancelled_sessions_leave_without_a_word() -> None:
    room = make_room()
    sessions = [session_of("a"), session_of("b"), session_of("c")]
    room.put_back(sessions[0])
    for session in sessions[1:]:
        room.enter(session, 0)
    sessions[0].is_cancelled = sessions[2].is_cancelled = True
    assert room.drop_cancelled() == sessions[:1], "only this one has run"
    assert names(list(room)) == ["b"]
    assert names(room.admit(0, now_ns=1)) == ["b"]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    gaps_ns=st.lists(st.integers(0, 100 * NS_PER_S), max_size=12),
    num_left=st.integers(1, 20),
    timeout_ms=st.sampled_from((1, 500, 30_000)),
)
def test_retry_delays_are_positive_and_bounded(
    gaps_ns: list[int], num_left: int, timeout_ms: int
) -> None:
    room = make_room(num_pages=9, max_waiting=40, timeout_ms=timeout_ms)
    now_ns = 1
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        session = session_of("s", now_ns)
        room.enter(session, 0)
        room.enter(session_of("waits", now_ns, prompt_len=8, max_new=1), 0)
        [admitted] = room.admit(0, now_ns)
        room._memory.release(admitted)
        room._new.remove(next(iter(room._new)))
    for index in range(num_left):
        room.enter(session_of(f"left{index}", now_ns), 8)
    refused = room.refuse_late(now_ns + timeout_ms * 1_000_000 + 1)
    assert len(refused) == num_left
    for _, error in refused:
        assert MIN_RETRY_DELAY_MS <= error.retry_delay_ms <= max(MIN_RETRY_DELAY_MS, timeout_ms)


def test_the_retry_delay_follows_the_pace_of_admissions() -> None:
    delays_ms = []
    for gap_s in (1, 8):
        room = make_room(num_pages=9, max_waiting=90, timeout_ms=1_000_000)
        for index in range(30):
            room.enter(session_of(f"s{index}", 0, prompt_len=8, max_new=1), 8)
        for index in range(20):
            [admitted] = room.admit(0, (1 + index * gap_s) * NS_PER_S)
            room._memory.release(admitted)
        with pytest.raises(QueueFull) as caught:
            raise room._queue_full()
        delays_ms.append(caught.value.retry_delay_ms)
    # Ten are left, and the one that is refused comes behind them.
    assert delays_ms[0] == pytest.approx(11_000, rel=0.05)
    assert delays_ms[1] == pytest.approx(88_000, rel=0.05)
