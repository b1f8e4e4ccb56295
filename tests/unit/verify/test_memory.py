"""Memory of sessions: admission, fences, quarantine, sessions left without memory."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.verify.session import Session
from shared.errors import InvalidRequest, PoolExhausted
from tests.unit.verify.builders import make_memory, make_session


def test_a_session_gets_the_pages_of_its_longest_course() -> None:
    memory = make_memory()
    session = make_session(prompt=[5] * 6, max_new_tokens=11)
    memory.admit(session)
    assert session.table is not None
    # Positions [0, 17) in pages of four.
    assert session.table.num_positions == 20
    assert session.exit_slot >= 0
    memory.check_integrity([session])
    memory.release(session)
    memory.release(session)
    assert memory.allocator.num_free == 16
    memory.check_integrity([])


def test_the_context_bounds_a_course() -> None:
    memory = make_memory(num_pages=40)
    session = make_session(prompt=[5] * 6, max_new_tokens=10_000)
    memory.admit(session)
    assert session.table is not None and session.table.num_positions == 64


def test_what_can_never_fit_is_refused_and_names_the_limit() -> None:
    memory = make_memory(num_pages=4)
    with pytest.raises(InvalidRequest, match="the pool holds 16") as caught:
        memory.check_fits(make_session(prompt=[5] * 6, max_new_tokens=11))
    assert caught.value.field == "stop.max_new_tokens"
    memory.check_fits(make_session(prompt=[5] * 6, max_new_tokens=10))


def test_without_pages_or_slots_nothing_is_taken() -> None:
    memory = make_memory(num_pages=8, num_exit_slots=1)
    first, second = make_session("a", max_new_tokens=5), make_session("b", max_new_tokens=5)
    memory.admit(first)
    with pytest.raises(PoolExhausted, match="slot"):
        memory.admit(second)
    memory.release(first)
    memory.admit(make_session("c", max_new_tokens=29))
    with pytest.raises(PoolExhausted):
        memory.admit(second)
    assert second.table is None


@pytest.mark.parametrize("num_generated", range(1, 9))
def test_a_fence_moves_what_may_still_be_written_and_keeps_what_is_committed(
    num_generated: int,
) -> None:
    memory = make_memory()
    session = make_session(prompt=[5, 6, 7], max_new_tokens=13, num_generated=num_generated)
    memory.admit(session)
    table, slot = session.table, session.exit_slot
    assert table is not None
    kv, start = memory.pool.layers[0], session.committed_len - 1
    for position, kv_slot in enumerate(table.slots(0, 16)):
        kv[:, :, kv_slot] = position
        memory.pool.token_ids_S[kv_slot] = position
    assert memory.fence(session, "draft-0")
    moved = session.table
    assert moved is not None and moved.num_positions == table.num_positions
    writable = set(table.slots(start, 16))
    assert not writable & set(moved.slots(0, 16)), "a late writer could reach live memory"
    assert session.exit_slot != slot
    for position, kv_slot in enumerate(moved.slots(0, start)):
        assert (kv[:, :, kv_slot] == position).all()
        assert memory.pool.token_ids_S[kv_slot] == position
    memory.check_integrity([session])
    assert memory.quarantined_workers == {"draft-0"}
    assert memory.end_quarantine((session.session_id, session.round_index))
    assert not memory.end_quarantine((session.session_id, session.round_index))
    memory.check_integrity([session])
    assert memory.allocator.num_quarantined == 0


@pytest.mark.parametrize(("num_pages", "num_exit_slots"), [(4, 4), (16, 1)])
def test_without_room_for_a_fence_the_session_holds_nothing(
    num_pages: int, num_exit_slots: int
) -> None:
    memory = make_memory(num_pages, num_exit_slots=num_exit_slots)
    session = make_session(prompt=[5] * 5, max_new_tokens=11, num_generated=1)
    memory.admit(session)
    assert not memory.fence(session, "draft-0")
    assert (session.table, session.exit_slot) == (None, -1)
    # The page before that of position n - 1 is free at once.
    assert memory.allocator.num_quarantined == 3
    assert memory.allocator.num_free == num_pages - 3
    memory.check_integrity([])
    memory.end_quarantine_of("draft-0")
    assert memory.allocator.num_free == num_pages
    memory.check_integrity([])


class MemoryMachine(RuleBasedStateMachine):
    """Sessions come, are fenced, end; draft workers answer late or are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = make_memory(num_pages=12, page_size=2, num_exit_slots=5)
        self.running: list[Session] = []
        self.homeless: list[Session] = []
        self.keys: list[tuple[str, int]] = []
        self.num_made = 0

    @rule(prompt_len=st.integers(1, 9), max_new=st.integers(1, 9))
    def admit(self, prompt_len: int, max_new: int) -> None:
        self.num_made += 1
        session = make_session(
            f"s{self.num_made}", [5] * prompt_len, max_new_tokens=max_new, num_generated=1
        )
        self._admit(session)

    def _admit(self, session: Session) -> None:
        num_free = self.memory.allocator.num_free
        try:
            self.memory.admit(session)
        except PoolExhausted:
            assert session.table is None
            assert self.memory.allocator.num_free == num_free
            return
        self.running.append(session)

    @precondition(lambda self: self.homeless)
    @rule()
    def admit_again(self) -> None:
        self._admit(self.homeless.pop())

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        session = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.memory.release(session)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), worker=st.sampled_from(("draft-0", "draft-1")))
    def fence(self, data: st.DataObject, worker: str) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        session = self.running[index]
        self.keys.append((session.session_id, session.round_index))
        if not self.memory.fence(session, worker):
            self.homeless.append(self.running.pop(index))
        session.round_index += 1

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def answer_late(self, data: st.DataObject) -> None:
        self.memory.end_quarantine(self.keys.pop(data.draw(st.integers(0, len(self.keys) - 1))))

    @rule(worker=st.sampled_from(("draft-0", "draft-1")))
    def lose_worker(self, worker: str) -> None:
        self.memory.end_quarantine_of(worker)
        assert worker not in self.memory.quarantined_workers

    @invariant()
    def accounts_agree(self) -> None:
        self.memory.check_integrity(self.running)

    def teardown(self) -> None:
        for session in self.running:
            self.memory.release(session)
        for worker in ("draft-0", "draft-1"):
            self.memory.end_quarantine_of(worker)
        assert self.memory.allocator.num_free == 12
        self.memory.check_integrity([])


MemoryMachine.TestCase.settings = settings(max_examples=60, deadline=None, derandomize=True)
TestMemoryMachine = MemoryMachine.TestCase
