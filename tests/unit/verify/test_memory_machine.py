"""Memory of sessions under random operations: everybody holds the KV of its own text."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.verify.memory import PrefixSharing
from services.verify.quarantine import RoundKey
from services.verify.session import Session
from shared.errors import PoolExhausted
from shared.ids import TokenId
from shared.model.page_table import num_pages_for
from shared.speculation.vocabulary import Extent, SamplingParams
from tests.engine_harness import GREEDY
from tests.unit.verify.builders import CONTEXT_LEN, make_memory, make_session
from tests.unit.verify.kv_marks import check_cached_kv, check_kv, mark_kv

PENALISED = SamplingParams(repetition_penalty=1.2)


class MemoryMachine(RuleBasedStateMachine):
    """Sessions come, run, are fenced, preempted, end; late writers write wherever they may.

    KV is a mark of the whole history up to its position, so a session that was let in on pages of
    others can be seen to hold exactly what it would have run itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running: list[Session] = []
        self.waiting: list[Session] = []
        # What abandoned rounds may write to: slots of the pool, by round, and whose it is.
        self.writers: dict[RoundKey, tuple[str, list[int]]] = {}
        self.num_made = 0

    @initialize(sharing=st.sampled_from(("all", "all", "tenant", "off")), size=st.integers(1, 3))
    def start(self, sharing: PrefixSharing, size: int) -> None:
        self.num_pages = 24 // size
        self.memory = make_memory(self.num_pages, size, 5, sharing)
        self.sharing = sharing

    @rule(
        prompt=st.lists(st.integers(1, 2), min_size=1, max_size=9),
        max_new=st.integers(1, 9),
        tenant=st.sampled_from(("ann", "bob")),
        sampling=st.sampled_from((GREEDY, PENALISED)),
        num_spare=st.integers(0, 3),
    )
    def arrive(
        self,
        prompt: list[int],
        max_new: int,
        tenant: str,
        sampling: SamplingParams,
        num_spare: int,
    ) -> None:
        self.num_made += 1
        session = make_session(
            f"s{self.num_made}", prompt, max_new, tenant=tenant, sampling=sampling
        )
        self._admit(session, num_spare)

    def _admit(self, session: Session, num_spare: int) -> None:
        memory, allocator = self.memory, self.memory.allocator
        num_free, num_known = allocator.num_free, len(memory.prefixes)
        try:
            memory.admit(session, num_spare)
        except PoolExhausted:
            assert (session.table, session.exit_slot) == (None, -1)
            assert (allocator.num_free, len(memory.prefixes)) == (num_free, num_known)
            self.waiting.append(session)
            return
        assert allocator.num_free >= num_spare
        assert session.table is not None
        num_pages = num_pages_for(session.committed_len + 1, memory.page_size)
        assert session.table.num_positions == num_pages * memory.page_size
        assert session.num_run < session.committed_len
        assert session.num_run == 0 or self.sharing != "off"
        self.running.append(session)

    @precondition(lambda self: self.waiting)
    @rule()
    def admit_again(self) -> None:
        self._admit(self.waiting.pop(), 0)

    def _one_of(self, data: st.DataObject, sessions: list[Session]) -> Session:
        return sessions[data.draw(st.integers(0, len(sessions) - 1))]

    def _prompts(self) -> list[Session]:
        return [each for each in self.running if not each.is_decoding]

    def _decoding(self) -> list[Session]:
        return [each for each in self.running if each.is_decoding]

    @precondition(lambda self: self._prompts())
    @rule(data=st.data(), num_rows=st.integers(1, 9))
    def prefill(self, data: st.DataObject, num_rows: int) -> None:
        session = self._one_of(data, self._prompts())
        end = min(session.committed_len, session.num_run + num_rows)
        mark_kv(self.memory, session, session.num_run, end)
        session.num_run = end
        if end == session.committed_len:
            session.tokens.append(TokenId(data.draw(st.integers(1, 2))))
            session.is_decoding = True
        self.memory.publish(session)

    @precondition(lambda self: self._decoding())
    @rule(data=st.data(), emitted=st.lists(st.integers(1, 2), min_size=1, max_size=4))
    def decode(self, data: st.DataObject, emitted: list[int]) -> None:
        session = self._one_of(data, self._decoding())
        num_left = session.max_len(CONTEXT_LEN) - session.committed_len
        emitted = emitted[:num_left]
        if not emitted or not self.memory.grow(session, session.committed_len + len(emitted) - 1):
            return
        assert session.table is not None
        # Drafts that are not kept leave KV behind, wherever the session may write.
        for slot in session.table.slots(session.num_run, session.table.num_positions):
            self.memory.pool.layers[0][:, :, slot] = -1
        session.tokens += [TokenId(token) for token in emitted]
        mark_kv(self.memory, session, session.num_run, session.committed_len - 1)
        session.num_run = session.committed_len - 1

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        session = self._one_of(data, self.running)
        self.running.remove(session)
        self.memory.release(session)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        session = self._one_of(data, self.running)
        self.running.remove(session)
        self.memory.release(session)
        self.waiting.append(session)

    @precondition(lambda self: self._decoding())
    @rule(data=st.data(), worker=st.sampled_from(("draft-0", "draft-1")))
    def fence(self, data: st.DataObject, worker: str) -> None:
        session = self._one_of(data, self._decoding())
        assert session.table is not None
        table, start = session.table, session.committed_len - 1
        slots = table.slots(start, table.num_positions)
        self.writers[session.session_id, session.round_index] = (worker, slots)
        if not self.memory.fence(session, worker):
            self.running.remove(session)
            self.waiting.append(session)
        session.round_index += 1

    @rule()
    def scribble(self) -> None:
        for _, slots in self.writers.values():
            for slot in slots:
                self.memory.pool.layers[0][:, :, slot] = torch.nan
                self.memory.pool.token_ids_S[slot] = 7

    @precondition(lambda self: self.writers)
    @rule(data=st.data())
    def answer_late(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.writers)))
        del self.writers[key]
        assert self.memory.end_quarantine(key)

    @rule(worker=st.sampled_from(("draft-0", "draft-1")))
    def lose_worker(self, worker: str) -> None:
        self.memory.end_quarantine_of(worker)
        self.writers = {key: held for key, held in self.writers.items() if held[0] != worker}
        assert worker not in self.memory.quarantine.worker_ids

    @invariant()
    def everybody_holds_the_kv_of_its_own_text(self) -> None:
        if not hasattr(self, "memory"):
            return
        memory = self.memory
        memory.check_integrity(self.running)
        for session in self.running:
            check_kv(memory, session)
        check_cached_kv(memory)
        assert memory.num_cached == memory.prefixes.num_evictable(memory.allocator.is_shared)

    def teardown(self) -> None:
        if not hasattr(self, "memory"):
            return
        memory, allocator = self.memory, self.memory.allocator
        for session in self.running:
            memory.release(session)
        for worker in ("draft-0", "draft-1"):
            memory.end_quarantine_of(worker)
        assert allocator.num_free + len(memory.prefixes) == self.num_pages
        evicted = memory.prefixes.evict(self.num_pages, allocator.is_shared)
        allocator.release(Extent(page, 1) for page in evicted)
        assert allocator.num_free == self.num_pages
        assert not allocator._promises
        memory.check_integrity([])


MemoryMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, derandomize=True
)
TestMemoryMachine = MemoryMachine.TestCase
