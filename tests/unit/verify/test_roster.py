"""The roster: who loses memory to whom, who comes back when, and that everybody gets to the end."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.verify.memory import SessionMemory
from services.verify.roster import Roster
from services.verify.session import Finished, Moved, Session, Started, by_place
from services.verify.waiting_room import AdmissionLimits, WaitingRoom
from shared.control.fair_queue import Priority
from shared.errors import InvalidRequest, QueueFull, WorkerDraining
from shared.ids import TokenId
from shared.speculation.vocabulary import FinishReason
from tests.unit.verify.builders import make_memory, make_session

NORMAL, LOW = Priority.NORMAL, Priority.LOW
NOBODY: frozenset[Session] = frozenset()


class RosterBench:
    """A roster over pages of one position, so that tokens and pages are the same."""

    def __init__(self, num_pages: int = 16, max_sessions: int = 8, max_waiting: int = 8) -> None:
        self.memory: SessionMemory = make_memory(num_pages, 1, max_sessions, "off")
        limits = AdmissionLimits(max_sessions, max_waiting, queue_timeout_ms=1_000)
        self.roster = Roster(WaitingRoom(limits, self.memory), self.memory)
        self.num_made = 0

    def enter(self, prompt_len: int, max_new: int = 8, priority: Priority = NORMAL) -> Session:
        """Queue a session; later ones are younger."""
        self.num_made += 1
        session = make_session(
            f"s{self.num_made}",
            [self.num_made] * prompt_len,
            max_new,
            priority=priority,
            arrived_ns=self.num_made,
        )
        self.roster.enter(session)
        return session

    def running(self, *prompt_lens: int, priorities: Sequence[Priority] = ()) -> list[Session]:
        """Return sessions that run; each has a page more than its prompt is long."""
        sessions = [
            self.enter(length, priority=priorities[index] if priorities else NORMAL)
            for index, length in enumerate(prompt_lens)
        ]
        assert self.roster.admit(now_ns=100)
        assert set(self.roster.running) == set(sessions)
        return sessions

    def events_of(self, session: Session) -> list[object]:
        """Return what the session's stream is to be told."""
        return [event for each, event in self.roster.events if each is session]

    def check(self) -> None:
        """Compare accounts; whoever waits holds nothing."""
        self.memory.check_integrity(self.roster.running)
        for session in self.roster._waiting:
            assert (session.table, session.exit_slot) == (None, -1)


def test_a_session_that_was_taken_off_starts_only_once() -> None:
    bench = RosterBench()
    [session] = bench.running(4)
    assert (session.admitted_ns, session.timings.queue_ns) == (100, 99)
    bench.memory.release(session)
    bench.roster.put_back(session)
    assert (len(bench.roster), bench.roster.num_waiting, bench.roster.running) == (1, 1, [])
    assert bench.roster.admit(now_ns=500)
    assert session.admitted_ns == 100
    assert bench.events_of(session) == [Started()]
    assert not bench.roster.admit(now_ns=600), "nobody came"


@pytest.mark.parametrize(
    ("priorities", "asking", "victims"),
    [
        # The youngest goes first, and as many as it takes.
        ([NORMAL] * 4, 0, [3]),
        ([NORMAL] * 4, 1, [3]),
        ([NORMAL] * 4, 2, [3]),
        # It is its own last victim.
        ([NORMAL] * 4, 3, [3]),
        # Low ones go before normal ones, the youngest of them first.
        ([LOW, NORMAL, LOW, NORMAL], 1, [2]),
        ([LOW, NORMAL, LOW, NORMAL], 3, [2]),
        ([LOW, NORMAL, LOW, NORMAL], 0, [2]),
        ([LOW, NORMAL, NORMAL, NORMAL], 0, [0]),
        ([LOW, NORMAL, NORMAL, NORMAL], 2, [0]),
    ],
)
def test_who_loses_memory(priorities: list[Priority], asking: int, victims: list[int]) -> None:
    bench = RosterBench(num_pages=19)
    sessions = bench.running(3, 3, 3, 3, priorities=priorities)
    asker = sessions[asking]
    # Three pages are free.
    assert bench.roster.make_room(asker, 8, NOBODY) == (asking not in victims)
    lost = [index for index, each in enumerate(sessions) if each.table is None]
    assert lost == victims
    assert [sessions[i].num_preemptions for i in victims] == [1] * len(victims)
    assert bench.roster.num_preemptions == len(victims)
    if asker.table is not None:
        assert asker.table.num_positions == 8
    bench.check()


def test_as_many_lose_memory_as_it_takes() -> None:
    bench = RosterBench(num_pages=19)
    sessions = bench.running(3, 3, 3, 3)
    assert bench.roster.make_room(sessions[0], 13, NOBODY)
    assert [each.table is None for each in sessions] == [False, False, True, True]
    assert not bench.roster.make_room(sessions[1], 13, NOBODY), "only the oldest is left besides"
    assert bench.roster.running == sessions[:1]
    bench.check()


def test_nobody_loses_memory_that_somebody_else_may_write_to() -> None:
    bench = RosterBench(num_pages=19)
    sessions = bench.running(3, 3, 3, 3)
    assert bench.roster.make_room(sessions[0], 8, {sessions[3]})
    assert sessions[2].table is None and sessions[3].table is not None
    bench.check()


def test_the_oldest_sits_a_pass_out_while_all_others_are_in_flight() -> None:
    bench = RosterBench(num_pages=19)
    sessions = bench.running(3, 3, 3, 3)
    others = set(sessions[1:])
    assert not bench.roster.make_room(sessions[0], 8, others)
    assert all(each.table is not None for each in sessions), "the younger ones land first"
    assert bench.roster.make_room(sessions[0], 8, NOBODY)
    assert sessions[3].table is None


def test_the_youngest_gives_way_to_those_in_flight() -> None:
    bench = RosterBench(num_pages=19)
    sessions = bench.running(3, 3, 3, 3)
    assert not bench.roster.make_room(sessions[3], 8, set(sessions[:3]))
    assert sessions[3].table is None


def test_who_was_taken_off_comes_back_before_anybody_new_the_oldest_first() -> None:
    bench = RosterBench(num_pages=19)
    old, younger, youngest = bench.running(3, 3, 3)
    assert bench.roster.make_room(old, 18, NOBODY)
    assert {younger, youngest} == set(bench.roster._waiting)
    new = bench.enter(1)
    bench.roster.admit(now_ns=200)
    assert bench.roster.running == [old], "there is room for the new one, but not its turn"
    bench.roster.end(old, FinishReason.STOP, now_ns=300)
    bench.roster.admit(now_ns=300)
    assert bench.roster.running == [younger, youngest, new]
    bench.check()


def test_a_cancelled_session_in_flight_ends_once_it_has_landed() -> None:
    bench = RosterBench()
    [session] = bench.running(4)
    session.is_cancelled = True
    assert bench.roster.drop_cancelled({session}, now_ns=5) == []
    assert session.table is not None
    assert bench.roster.drop_cancelled(NOBODY, now_ns=6) == [session]
    last = bench.events_of(session)[-1]
    assert isinstance(last, Finished) and last.reason is FinishReason.CANCELLED
    assert bench.memory.allocator.num_used == 0
    assert len(bench.roster) == 0


def test_a_session_cancelled_while_it_waits_to_be_replayed_is_named_and_counted() -> None:
    bench = RosterBench()
    [session] = bench.running(4)
    session.summary.num_drafts = 3
    bench.memory.release(session)
    bench.roster.put_back(session)
    new = bench.enter(4)
    session.is_cancelled = new.is_cancelled = True
    # The one that ran is known elsewhere, and must be forgotten there.
    assert session in bench.roster.drop_cancelled(NOBODY, now_ns=6)
    assert bench.roster.summary.num_drafts == 3
    assert len(bench.roster) == 0


def test_refusals_become_the_last_event_of_a_stream() -> None:
    bench = RosterBench(num_pages=11, max_sessions=1, max_waiting=1)
    [running] = bench.running(3)
    waiting = bench.enter(3)
    full = bench.enter(3)
    assert [type(each) for each in bench.events_of(full)] == [QueueFull]
    too_long = bench.enter(3, max_new=60)
    assert [type(each) for each in bench.events_of(too_long)] == [InvalidRequest]
    bench.roster.is_draining = True
    late = bench.enter(3)
    assert [type(each) for each in bench.events_of(late)] == [WorkerDraining]
    assert (bench.events_of(running), bench.events_of(waiting)) == ([Started()], [])
    assert len(bench.roster) == 2


def test_sessions_told_to_move_are_told_so_wherever_they_are() -> None:
    bench = RosterBench(max_sessions=2)
    first, second = bench.running(3, 3)
    bench.memory.release(second)
    bench.roster.put_back(second)
    new = bench.enter(3)
    bench.roster.move_all("shutting down")
    for session in (first, second, new):
        assert bench.events_of(session)[-1] == Moved("shutting down")
    bench.roster.drop_cancelled(NOBODY, now_ns=9)
    assert len(bench.roster) == 0
    assert bench.memory.allocator.num_used == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 12), st.sampled_from(Priority)),
        min_size=2,
        max_size=9,
    ),
    num_pages=st.integers(21, 40),
    max_sessions=st.integers(1, 5),
    overlap=st.booleans(),
)
def test_everybody_gets_to_the_end_and_whoever_is_first_never_loses_anything(
    sizes: list[tuple[int, int, Priority]], num_pages: int, max_sessions: int, overlap: bool
) -> None:
    """Steps without a model: a token each, given room; in overlap, half of them at a time."""
    bench = RosterBench(num_pages, max_sessions, max_waiting=9)
    roster, memory = bench.roster, bench.memory
    sessions = [bench.enter(*size) for size in sizes]
    in_flight: frozenset[Session] = NOBODY
    num_steps = 0
    while len(roster):
        num_steps += 1
        assert num_steps < 500, "somebody waits for ever"
        roster.admit(now_ns=1_000 + num_steps)
        first = min(roster.running, key=by_place)
        num_lost = first.num_preemptions
        free = [each for each in roster.running if each not in in_flight]
        if overlap:
            free = free[: -(-len(roster.running) // 2)]
        for session in sorted(free, key=by_place):
            if session.table is not None:
                roster.make_room(session, session.committed_len, in_flight)
        assert first.num_preemptions == num_lost
        ordered = frozenset(
            each
            for each in free
            if each.table is not None and each.table.num_positions >= each.committed_len
        )
        for session in in_flight if overlap else ordered:
            session.tokens.append(TokenId(1))
            session.num_run, session.is_decoding = session.committed_len - 1, True
            if session.num_emitted == session.request.stop.max_new_tokens:
                roster.end(session, FinishReason.LENGTH, num_steps)
        in_flight = ordered if overlap else NOBODY
        bench.check()
    assert all(each.num_emitted == each.request.stop.max_new_tokens for each in sessions)
    assert memory.allocator.num_free == num_pages
