"""Rounds in flight: what was ordered of the draft worker, what came back, what was abandoned.

    idle --send--> in flight --answer--> collected
                      |
                      +--overdue or lost--> fenced: memory in quarantine until
                                            the answer comes, the worker attaches anew,
                                            or its liveness lock is free

Owned by the engine's thread. A draft worker with an overdue round gets no new ones until it has
answered: it is stalled, and speculation is off meanwhile.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.verify.drafter import Drafter, DrafterLost, DrafterReady
from services.verify.memory import SessionMemory
from services.verify.quarantine import RoundKey
from services.verify.session import Session
from services.verify.shadow import shadow_fault
from shared.ids import SessionId
from shared.model.segment import is_lock_free
from shared.speculation.tree import draft_fault
from shared.speculation.vocabulary import Decision, Draft, RoundTask

log = logging.getLogger(__name__)

# Malformed drafts in a row after which a draft worker is asked no more until it has attached anew.
MAX_MALFORMED = 3
# A round is overdue after so many times the longest recent one, and after this time in any case.
OVERDUE_FACTOR = 8
MAX_TIMEOUT_NS = 30_000_000_000


@dataclass(slots=True)
class InFlight:
    """One round that was sent."""

    session: Session
    task: RoundTask


@dataclass(frozen=True, slots=True)
class Ordered:
    """Rounds whose drafts were ordered, when, and since when nothing else is done meanwhile.

    shadow: exits to be read in these rounds, see `Plan`.
    """

    decoding: tuple[tuple[Session, Decision], ...] = ()
    sent_ns: int = 0
    wait_from_ns: int = 0
    shadow: Mapping[SessionId, tuple[int, ...]] = field(default_factory=dict)

    @property
    def sessions(self) -> frozenset[Session]:
        """Sessions whose pages somebody else may write to now."""
        return frozenset(session for session, _ in self.decoding)


NOTHING = Ordered()


class Rounds:
    """The rounds of this cell's one draft worker."""

    def __init__(
        self, drafter: Drafter, memory: SessionMemory, vocab_size: int, timeout_ms: int
    ) -> None:
        self._drafter = drafter
        self._give_up: Callable[[str], None] = lambda reason: None
        self._memory = memory
        self._vocab_size = vocab_size
        self._timeout_ns = timeout_ms * 1_000_000
        self._in_flight: dict[RoundKey, InFlight] = {}
        self._drafts: dict[RoundKey, Draft] = {}
        self._worker_id = ""
        self._liveness: dict[str, Path | None] = {}
        self._slowest_ns = 0.0
        self._num_malformed_in_a_row = 0
        # Whether what this worker reads at an exit is what would be drafted there.
        self.reads_alike = False
        self.num_late = 0
        self.num_fenced = 0
        self.num_malformed = 0
        self.num_attached = 0

    @property
    def has_draft_worker(self) -> bool:
        """Whether a draft worker is attached, sane and not behind."""
        is_attached = bool(self._worker_id) and self._num_malformed_in_a_row < MAX_MALFORMED
        return is_attached and self._worker_id not in self._memory.quarantine.worker_ids

    @property
    def num_draft_workers(self) -> int:
        """Draft workers attached: 0 or 1."""
        return int(bool(self._worker_id))

    def waits_for(self, sessions: Iterable[Session]) -> bool:
        """Say whether any of these sessions' rounds has not been answered."""
        in_flight = self._in_flight
        return bool(in_flight) and any(
            (session.session_id, session.round_index) in in_flight for session in sessions
        )

    @property
    def timeout_ns(self) -> int:
        """Time after which the rounds of a pass are abandoned."""
        return max(self._timeout_ns, min(int(OVERDUE_FACTOR * self._slowest_ns), MAX_TIMEOUT_NS))

    def send(self, sessions: Iterable[tuple[Session, RoundTask]]) -> None:
        """Order the rounds of a pass."""
        tasks = []
        for session, task in sessions:
            self._in_flight[session.session_id, task.round_index] = InFlight(session, task)
            tasks.append(task)
        if tasks:
            self._drafter.send(tasks)

    def take(self, drafts: Iterable[Draft]) -> None:
        """Take answers; those of rounds that are over are dropped and counted."""
        for draft in drafts:
            key = (draft.session_id, draft.round_index)
            # Late answers count too: on a slow machine every round would be overdue for ever.
            self._slowest_ns = max(float(draft.draft_ns), 0.95 * self._slowest_ns)
            ordered = self._in_flight.pop(key, None)
            if ordered is None:
                self.num_late += 1
                self._memory.end_quarantine(key)
                continue
            if self._is_sound(draft, ordered.task):
                self._num_malformed_in_a_row = 0
                self._drafts[key] = draft

    def _is_sound(self, draft: Draft, task: RoundTask) -> bool:
        """Say whether a draft fits its task; one that does not counts as no draft."""
        fault = draft.error
        fault = fault or draft_fault(draft.draft_tokens, draft.parents, task.decision)
        if not fault and len(draft.confidences) != len(draft.draft_tokens):
            fault = "confidences do not match the draft"
        if not fault and draft.exit_slot != task.exit_slot:
            fault = "exit states lie in another slot"
        if not fault and any(not 0 <= token < self._vocab_size for token in draft.draft_tokens):
            fault = "a draft token lies outside the vocabulary"
        fault = fault or shadow_fault(draft, task, self._vocab_size)
        if fault:
            self._num_malformed_in_a_row += 1
            self.num_malformed += 1
            log.warning("malformed draft", extra={"session_id": task.session_id, "fault": fault})
            if self._num_malformed_in_a_row == MAX_MALFORMED:
                self._give_up(f"{MAX_MALFORMED} malformed drafts in a row")
        return not fault

    def collect(self, sessions: Iterable[Session]) -> dict[str, Draft]:
        """Return the drafts that are in for these sessions, by session, and forget them."""
        drafts: dict[str, Draft] = {}
        for session in sessions:
            draft = self._drafts.pop((session.session_id, session.round_index), None)
            if draft is not None:
                drafts[draft.session_id] = draft
        return drafts

    def abandon(self) -> list[Session]:
        """Fence every session whose round is unanswered; return those that lost their memory."""
        homeless = []
        for ordered in self._in_flight.values():
            self.num_fenced += 1
            if not self._memory.fence(ordered.session, self._worker_id):
                homeless.append(ordered.session)
        self._in_flight.clear()
        return homeless

    def attach(self, event: DrafterReady) -> None:
        """Note that a draft worker attached: rounds from before cannot be written any more."""
        self._worker_id = event.worker_id
        self.num_attached += 1
        self._drafter = event.drafter or self._drafter
        self._give_up = event.give_up
        self._liveness[event.worker_id] = event.liveness_path
        self._num_malformed_in_a_row = 0
        self.reads_alike = event.reads_alike
        self._memory.end_quarantine_of(event.worker_id)

    def detach(self, event: DrafterLost) -> list[Session]:
        """Note that the stream ended; return the sessions that lost their memory."""
        log.warning("speculation off: draft worker lost", extra={"reason": event.reason})
        homeless = self.abandon()
        self._worker_id = ""
        return homeless

    def release_quarantine(self) -> None:
        """Free what draft workers that are known to be gone may have written to."""
        for worker_id in self._memory.quarantine.worker_ids - {self._worker_id}:
            path = self._liveness.get(worker_id)
            if path is None or is_lock_free(path):
                self._memory.end_quarantine_of(worker_id)
                self._liveness.pop(worker_id, None)
