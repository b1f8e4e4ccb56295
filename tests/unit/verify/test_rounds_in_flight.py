"""Rounds: orders, answers, late and malformed ones, lost draft workers and their locks."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from services.verify.drafter import DrafterLost, DrafterReady
from services.verify.memory import SessionMemory
from services.verify.rounds import MAX_MALFORMED, MAX_TIMEOUT_NS, Rounds
from services.verify.session import Session
from shared.ids import SessionId, TokenId
from shared.model.segment import hold_lock
from shared.speculation.vocabulary import Decision, Draft, RoundTask, ShadowRead, TreeBudget
from tests.unit.verify.builders import WISHED, make_memory, make_session

VOCAB_SIZE = 50


class FakeDrafter:
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.tasks: list[RoundTask] = []

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Keep the tasks."""
        self.tasks += tasks


class RoundsBench:
    """Rounds over a small memory, with one running session."""

    def __init__(self, num_pages: int = 16) -> None:
        self.drafter = FakeDrafter()
        self.memory: SessionMemory = make_memory(num_pages)
        self.rounds = Rounds(self.drafter, self.memory, VOCAB_SIZE, timeout_ms=10)
        self.rounds.attach(DrafterReady("draft-0"))
        self.session = make_session(max_new_tokens=13, num_generated=1)
        self.memory.admit(self.session)
        assert self.memory.grow(self.session, 16)

    @property
    def is_waiting(self) -> bool:
        """Whether the session's round has not been answered."""
        return self.rounds.waits_for([self.session])

    def collect(self, *others: Session) -> dict[SessionId, Draft]:
        """Take the drafts that are in."""
        return self.rounds.collect([self.session, *others])

    def order(self, session: Session | None = None, wished: Decision = WISHED) -> RoundTask:
        """Send the session's next round."""
        session = session or self.session
        self.rounds.send([(session, session.make_task(wished))])
        return self.drafter.tasks[-1]


def answer(task: RoundTask, *tokens: int, draft_ns: int = 0) -> Draft:
    chosen = tuple(TokenId(token) for token in tokens or (5, 6))
    confidences = (0.5,) * len(chosen)
    return Draft(
        task.session_id,
        task.round_index,
        chosen,
        confidences,
        task.exit_slot,
        draft_ns=draft_ns,
    )


@pytest.fixture
def bench() -> RoundsBench:
    """A fresh bench."""
    return RoundsBench()


def test_an_answer_in_time_is_collected_once(bench: RoundsBench) -> None:
    task = bench.order()
    assert bench.is_waiting
    draft = answer(task)
    bench.rounds.take([draft])
    assert not bench.is_waiting
    assert bench.collect() == {bench.session.session_id: draft}
    assert bench.collect() == {}


def test_a_repeated_answer_is_dropped_and_counted(bench: RoundsBench) -> None:
    draft = answer(bench.order())
    bench.rounds.take([draft, draft])
    assert bench.rounds.num_late == 1
    assert len(bench.collect()) == 1


def test_an_overdue_round_stalls_its_worker_until_the_late_answer(bench: RoundsBench) -> None:
    task = bench.order()
    assert bench.rounds.abandon() == []
    assert bench.rounds.num_fenced == 1
    assert not bench.is_waiting
    assert not bench.rounds.has_draft_worker, "a stalled worker gets no rounds"
    assert bench.rounds.num_draft_workers == 1
    bench.rounds.release_quarantine()
    assert bench.memory.allocator.num_quarantined > 0, "it is attached: it may still write"
    bench.rounds.take([answer(task)])
    assert bench.rounds.num_late == 1
    assert bench.collect() == {}
    assert bench.rounds.has_draft_worker
    assert bench.memory.allocator.num_quarantined == 0


def test_a_session_without_room_for_the_fence_is_returned() -> None:
    bench = RoundsBench(num_pages=4)
    bench.order()
    assert bench.rounds.abandon() == [bench.session]
    assert bench.session.table is None


@pytest.mark.parametrize(
    "fault",
    [
        {"draft_tokens": ()},
        {"draft_tokens": (5,) * 5, "confidences": (0.5,) * 5},
        {"confidences": (0.5,)},
        {"exit_slot": 99},
        {"draft_tokens": (5, VOCAB_SIZE)},
        {"error": "no"},
        {"shadow": (ShadowRead(1, (TokenId(5),) * 3, (0.5,) * 3),)},
        {"parents": (-1, -1)},
    ],
    ids=["no tokens", "too many", "confidences", "slot", "vocabulary", "error", "shadow", "tree"],
)
def test_a_malformed_draft_is_no_draft_and_the_third_in_a_row_ends_speculation(
    fault: dict[str, object], bench: RoundsBench
) -> None:
    for index in range(MAX_MALFORMED):
        assert bench.rounds.has_draft_worker, f"after {index} malformed drafts"
        task = bench.order()
        bench.rounds.take([replace(answer(task), **fault)])  # type: ignore[arg-type]
        assert not bench.is_waiting
        assert bench.collect() == {}
        bench.session.round_index += 1
    assert not bench.rounds.has_draft_worker
    assert bench.memory.allocator.num_quarantined == 0, "it has answered: it writes no more"
    bench.rounds.attach(DrafterReady("draft-1"))
    assert bench.rounds.has_draft_worker


@pytest.mark.parametrize("parents", [(-1, 1), (0, -1), (-1, -2), (-1,), (-1, 2**31 - 1)], ids=str)
def test_a_malformed_tree_is_no_draft(parents: tuple[int, ...], bench: RoundsBench) -> None:
    wished = replace(WISHED, tree=TreeBudget(6, 3))
    bench.rounds.take([replace(answer(bench.order(wished=wished)), parents=parents)])
    assert (bench.rounds.num_malformed, bench.collect()) == (1, {})
    bench.session.round_index += 1
    sound = replace(answer(bench.order(wished=wished)), parents=(-1, -1))
    bench.rounds.take([sound])
    assert bench.collect() == {bench.session.session_id: sound}


def test_a_sound_draft_forgives_malformed_ones(bench: RoundsBench) -> None:
    for index in range(2 * MAX_MALFORMED):
        task = bench.order()
        sound = answer(task)
        bench.rounds.take([sound if index % 2 else replace(sound, error="no")])
        bench.session.round_index += 1
    assert bench.rounds.has_draft_worker


def test_a_lost_worker_leaves_its_rounds_fenced_until_its_lock_is_free(
    bench: RoundsBench, tmp_path: Path
) -> None:
    lock = tmp_path / "draft-1.lock"
    fd = hold_lock(lock)
    bench.rounds.attach(DrafterReady("draft-1", lock))
    bench.order()
    assert bench.rounds.detach(DrafterLost("gone")) == []
    assert not bench.rounds.has_draft_worker
    assert bench.rounds.num_draft_workers == 0
    bench.rounds.release_quarantine()
    assert bench.memory.allocator.num_quarantined > 0, "its process lives: it may still write"
    # Another worker takes over meanwhile, and is not held back by the old one's rounds.
    bench.rounds.attach(DrafterReady("draft-2", tmp_path / "draft-2.lock"))
    assert bench.rounds.has_draft_worker
    os.close(fd)
    bench.rounds.release_quarantine()
    assert bench.memory.allocator.num_quarantined == 0
    bench.memory.check_integrity([bench.session])


def test_a_worker_that_attaches_anew_writes_nothing_of_rounds_before(bench: RoundsBench) -> None:
    bench.order()
    bench.rounds.detach(DrafterLost("stream ended"))
    assert bench.memory.allocator.num_quarantined > 0
    bench.rounds.attach(DrafterReady("draft-0"))
    assert bench.memory.allocator.num_quarantined == 0
    assert bench.rounds.has_draft_worker


def test_rounds_go_to_the_drafter_of_the_attachment_in_force(bench: RoundsBench) -> None:
    second = FakeDrafter()
    bench.rounds.attach(DrafterReady("draft-0", None, second))
    bench.rounds.send([(bench.session, bench.session.make_task(WISHED))])
    assert (len(bench.drafter.tasks), len(second.tasks)) == (0, 1)


def test_the_timeout_follows_the_slowest_round_late_ones_included(bench: RoundsBench) -> None:
    assert bench.rounds.timeout_ns == 10_000_000
    task = bench.order()
    bench.rounds.abandon()
    bench.rounds.take([answer(task, draft_ns=30_000_000)])
    assert bench.rounds.timeout_ns == 240_000_000
    task = bench.order()
    bench.rounds.take([answer(task, draft_ns=10)])
    assert bench.rounds.timeout_ns == pytest.approx(0.95 * 240_000_000, rel=1e-6)
    bench.rounds.take([answer(task, draft_ns=1 << 60)])
    assert bench.rounds.timeout_ns == MAX_TIMEOUT_NS


def test_rounds_of_several_sessions_are_told_apart(bench: RoundsBench) -> None:
    other = make_session("s", max_new_tokens=13, num_generated=1)
    bench.memory.admit(other)
    tasks = [bench.order(), bench.order(other)]
    assert tasks[0].session_id != tasks[1].session_id, "though their ids from outside are equal"
    bench.rounds.take([answer(tasks[1], 8), answer(tasks[0], 9)])
    drafts = bench.collect(other)
    assert drafts[bench.session.session_id].draft_tokens == (9,)
    assert drafts[other.session_id].draft_tokens == (8,)
