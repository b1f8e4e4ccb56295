"""The verify engine: one thread, one loop of six verbs.

    plan      which sessions prefill, draft and verify in this pass
    collect   the drafts; overdue rounds are fenced and go on without
    run       one ragged pass over the active rows, and the choice at every head
    judge     which drafts survive
    commit    lengths change, nothing is copied
    emit      ids and timings to the streams

Everything that happens outside comes in through the inbox: sessions, cancellations, drafts.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from services.verify.commit import commit_round, finish
from services.verify.drafter import DrafterLost, DrafterReady, DraftsArrived
from services.verify.events import Cancel, EngineEvent, MoveAll, Stop, Submit, Wake
from services.verify.memory import SessionMemory
from services.verify.pass_runner import PassItem, PassResult, PassRunner, make_items
from services.verify.rounds import Rounds
from services.verify.scheduler import Plan, SchedulerLimits, make_plan
from services.verify.session import Moved, Session, SessionEvent, Started
from services.verify.waiting_room import WaitingRoom
from shared.errors import InvalidRequest, QueueFull, WorkerDraining
from shared.speculation.vocabulary import Decision, Draft, FinishReason, SpeculationSummary

log = logging.getLogger(__name__)

POLL_S = 0.05
# After so long without work the memory's accounts are compared.
IDLE_CHECK_S = 0.5


Emit = Callable[[list[tuple[Session, SessionEvent]]], None]


class VerifyEngine:
    """Owns all sessions; `post` may be called from any thread."""

    def __init__(
        self,
        limits: SchedulerLimits,
        waiting: WaitingRoom,
        memory: SessionMemory,
        runner: PassRunner,
        emit: Emit,
        num_threads: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._limits = limits
        self._memory = memory
        self._runner = runner
        self._emit = emit
        self._num_threads = num_threads
        self._on_failure = on_failure
        self._inbox: queue.SimpleQueue[EngineEvent] = queue.SimpleQueue()
        self._waiting = waiting
        self._sessions: list[Session] = []
        self._events: list[tuple[Session, SessionEvent]] = []
        self._is_stopped = False
        self._is_checked = False
        self._thread = threading.Thread(target=self._run, name="verify-engine", daemon=True)
        self.rounds: Rounds
        self.is_draining = False
        self.summary = SpeculationSummary()

    @property
    def num_sessions(self) -> int:
        """Sessions running and waiting."""
        return len(self._sessions) + len(self._waiting)

    def start(self, rounds: Rounds) -> None:
        """Start the loop, with the rounds of whoever drafts."""
        self.rounds = rounds
        self._thread.start()

    def post(self, event: EngineEvent) -> None:
        """Put an event into the inbox."""
        self._inbox.put(event)

    def stop(self) -> None:
        """End the thread after the pass in hand."""
        self._inbox.put(Stop())
        self._thread.join()

    def _run(self) -> None:
        try:
            if self._num_threads:
                torch.set_num_threads(self._num_threads)
            with torch.inference_mode():
                while not self._is_stopped:
                    self._step()
                self._flush()
        except BaseException as error:
            log.exception("verify engine failed")
            self._on_failure(error)

    def _step(self) -> None:
        self._take_events()
        self._admit()
        plan = make_plan(
            self._sessions,
            self._limits,
            has_draft_worker=self.rounds.has_draft_worker,
        )
        if not plan.is_empty:
            drafts = self._collect(plan)
            started_ns = time.perf_counter_ns()
            results = self._runner.run(make_items(plan, drafts))
            self._commit(plan, drafts, results, time.perf_counter_ns() - started_ns)

    # --- events ---------------------------------------------------------------------------------

    def _take_events(self) -> None:
        """Take what is in the inbox; wait for something while there is nothing to do."""
        self.rounds.release_quarantine()
        is_idle = not any(self._is_ready(session) for session in self._sessions)
        if is_idle:
            self._flush()
        if is_idle and not self._take_one(self._idle_timeout_s()):
            self._check_when_idle()
        while not self._inbox.empty():
            self._take_one(0.0)
        self._drop_cancelled()

    def _is_ready(self, session: Session) -> bool:
        is_paused = session.num_unread() >= self._limits.max_unread
        return not (session.is_decoding and is_paused)

    def _idle_timeout_s(self) -> float | None:
        if self._waiting or self._memory.quarantined_workers:
            return POLL_S
        return None if self._is_checked else IDLE_CHECK_S

    def _check_when_idle(self) -> None:
        """Compare the memory's accounts once per idle time; a fault ends the worker."""
        if not self._is_checked:
            self._memory.check_integrity(self._sessions)
            self._is_checked = True

    def _take_one(self, timeout_s: float | None) -> bool:
        """Take one event, waiting for it at most so long; say whether there was one."""
        try:
            event = self._inbox.get(timeout_s != 0.0, timeout_s)
        except queue.Empty:
            return False
        self._handle(event)
        return True

    def _handle(self, event: EngineEvent) -> None:
        match event:
            case DraftsArrived():
                self.rounds.take(event.drafts)
            case Submit():
                self._enqueue(event.session)
            case Cancel():
                event.session.is_cancelled = True
            case DrafterReady():
                self.rounds.attach(event)
            case DrafterLost():
                self._make_homeless(self.rounds.detach(event))
            case MoveAll():
                self._move_all(event.reason)
            case Stop():
                self._is_stopped = True
            case Wake():
                pass

    def _enqueue(self, session: Session) -> None:
        try:
            if self.is_draining:
                raise WorkerDraining("this worker is draining")
            self._waiting.enter(session, len(self._sessions))
        except (WorkerDraining, InvalidRequest, QueueFull) as error:
            self._events.append((session, error))

    def _drop_cancelled(self) -> None:
        for session in [each for each in self._sessions if each.is_cancelled]:
            self._end(session, FinishReason.CANCELLED)
        self._waiting.drop_cancelled()

    def _move_all(self, reason: str) -> None:
        for session in [*self._sessions, *self._waiting]:
            self._events.append((session, Moved(reason)))
            session.is_cancelled = True

    def _make_homeless(self, sessions: list[Session]) -> None:
        """Queue sessions that lost their pages again; they are replayed from their ids."""
        for session in sessions:
            # The lost round was ordered: its key is used up.
            session.round_index += 1
            self._sessions.remove(session)
            self._waiting.put_back(session)

    def _flush(self) -> None:
        if self._events:
            self._emit(self._events)
            self._events = []

    def _admit(self) -> None:
        now_ns = time.perf_counter_ns()
        for session in self._waiting.admit(len(self._sessions)):
            self._is_checked = False
            self._sessions.append(session)
            if not session.admitted_ns:
                session.admitted_ns = now_ns
                session.timings.queue_ns = now_ns - session.arrived_ns
                self._events.append((session, Started()))
        self._events += self._waiting.refuse_late(now_ns)

    # --- a pass ---------------------------------------------------------------------------------

    def _collect(self, plan: Plan) -> dict[str, Draft]:
        """Order the drafts of a pass and wait for them; what is overdue goes on without.

        What the last pass emitted goes out behind the order, while the draft worker runs: sending
        it takes the event loop longer than the order does.
        """
        drafting = plan.drafting
        started_ns = time.perf_counter_ns()
        if drafting:
            self._runner.hand_over()
        self.rounds.send((session, session.make_task(wish)) for session, wish in drafting)
        self._flush()
        if not drafting:
            return {}
        deadline_ns = started_ns + self.rounds.timeout_ns
        while self.rounds.is_waiting:
            left_s = max(0.0, (deadline_ns - time.perf_counter_ns()) / 1e9)
            # An answer that is in is taken, however long it took.
            if not self._take_one(left_s) and left_s == 0.0:
                log.warning("rounds overdue: going on without drafts")
                self._make_homeless(self.rounds.abandon())
        draft_ns = time.perf_counter_ns() - started_ns
        for session, _ in drafting:
            session.timings.draft_ns += draft_ns
        return self.rounds.collect()

    def _commit(
        self,
        plan: Plan,
        drafts: dict[str, Draft],
        results: list[PassResult],
        pass_ns: int,
    ) -> None:
        decisions = {session.session_id: decision for session, decision in plan.decoding}
        now_ns = time.perf_counter_ns()
        for result in results:
            session = result.item.session
            session.timings.verify_ns += pass_ns
            self._write_tokens(result.item)
            if result.item.num_heads == 0:
                session.num_run += len(result.item.token_ids)
                continue
            decision = decisions.get(session.session_id)
            draft = drafts.get(session.session_id)
            self._commit_round(session, decision, draft, result, now_ns)

    def _commit_round(
        self,
        session: Session,
        decision: Decision | None,
        draft: Draft | None,
        result: PassResult,
        now_ns: int,
    ) -> None:
        emitted, reason = commit_round(
            session, decision, draft, result, self._limits.max_context_len
        )
        if not session.first_token_ns:
            session.first_token_ns = now_ns
            session.timings.prefill_ns = now_ns - session.admitted_ns
        self._events.append((session, emitted))
        if reason is not None:
            self._end(session, reason)

    def _write_tokens(self, item: PassItem) -> None:
        """Note the ids of rows where a draft worker will read them."""
        if item.session.request.sampling.needs_history:
            assert item.session.table is not None
            self._memory.pool.write_tokens(item.session.table, item.start, list(item.token_ids))

    def _end(self, session: Session, reason: FinishReason) -> None:
        self._memory.release(session)
        self._sessions.remove(session)
        self.summary.add(session.summary)
        self._events.append((session, finish(session, reason, time.perf_counter_ns())))

    def state(self) -> dict[str, Any]:
        """Return figures for the info call; another thread reads them, at about one moment."""
        allocator = self._memory.allocator
        return {
            "num_pages": allocator.num_pages,
            "num_free": allocator.num_free,
            "num_used": allocator.num_used,
            "num_quarantined": allocator.num_quarantined,
        }
