"""The verify engine: one thread, one loop of six verbs.

    plan      which sessions prefill, draft and verify in this pass, and on which pages
    collect   the drafts; overdue rounds are fenced and go on without
    run       one ragged pass over the active rows, and the choice at every head
    judge     which drafts survive
    commit    lengths change, nothing is copied
    emit      ids and timings to the streams

Everything that happens outside comes in through the inbox: sessions, cancellations, drafts. Where
overlap was measured to deliver more than one batch of all sessions, the drafts of one half of them
are made while the other half is verified:

    draft worker     A0 | B0 | A1 | B1 | ..
    verify worker         A0 | B0 | A1 | ..
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from services.verify.committer import Committer
from services.verify.drafter import DrafterLost, DrafterReady, DraftsArrived
from services.verify.events import (
    Adopt,
    AdoptStream,
    Cancel,
    EngineEvent,
    MoveAll,
    Stop,
    Submit,
    Wake,
    WarmStart,
)
from services.verify.held_plan import HeldPlan
from services.verify.memory import SessionMemory
from services.verify.pages import fit_to_pages
from services.verify.pass_items import make_items
from services.verify.pass_runner import PassRunner
from services.verify.roster import Roster
from services.verify.rounds import NOTHING, Ordered, Rounds
from services.verify.scheduler import Plan, SchedulerLimits, is_paused
from services.verify.session import Session, SessionEvent
from services.verify.shadow import make_tasks, shadow_of
from services.verify.step_log import StepLog
from services.verify.step_times import StepTimes
from shared.control.overlap import OverlapChooser
from shared.speculation.vocabulary import Draft

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
        roster: Roster,
        memory: SessionMemory,
        runner: PassRunner,
        emit: Emit,
        on_failure: Callable[[BaseException], None],
        steps: StepLog,
        overlap: OverlapChooser,
    ) -> None:
        self._limits = limits
        self._memory = memory
        self._runner = runner
        self._emit = emit
        self._on_failure = on_failure
        self._inbox: queue.SimpleQueue[EngineEvent] = queue.SimpleQueue()
        self.roster = roster
        self.steps = steps
        self._overlap = overlap
        self._plans = HeldPlan(limits, steps.governor)
        self.committer = Committer(memory, roster, steps, limits.max_context_len)
        # Rounds whose drafts are in the making while other sessions are verified.
        self._ordered = NOTHING
        self._is_overlapped = False
        self._decide_ns = 0
        # Whether the step at hand looked at skip sets: its times tell of no other.
        self._has_looked = False
        self._is_stopped = False
        self._is_checked = False
        self._thread = threading.Thread(target=self._run, name="verify-engine", daemon=True)
        self.rounds: Rounds

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
            with torch.inference_mode():
                while not self._is_stopped:
                    self._step()
                self._flush()
        except BaseException as error:
            log.exception("verify engine failed")
            self._on_failure(error)

    def _step(self) -> None:
        self._take_events()
        started_ns = time.perf_counter_ns()
        if self.roster.admit(started_ns):
            self._is_checked = False
        plan, ordered = self._order(self._plan())
        drafts = self._collect(ordered)
        collected_ns = time.perf_counter_ns()
        results = self._runner.run(make_items(plan, drafts))
        if not results:
            return
        times = StepTimes(
            started_ns,
            ordered.wait_from_ns,
            collected_ns,
            time.perf_counter_ns(),
            self._runner.read_ns,
            self._decide_ns,
        )
        rounds = self.committer.commit(plan, drafts, results, times)
        if any(prefill.session.is_decoding for prefill in plan.prefills):
            # A first token does not wait for what is learnt, decided and ordered next.
            self._flush()
        end_ns = time.perf_counter_ns()
        self._overlap.note(
            sum(each.num_emitted for _, each in rounds),
            end_ns - started_ns,
            has_prefill=bool(plan.prefills),
        )
        teaches = not (self._overlap.is_trial or self._has_looked)
        self.steps.note(times, end_ns, rounds, results, drafts, teaches=teaches)

    # --- events ---------------------------------------------------------------------------------

    def _take_events(self) -> None:
        """Take what is in the inbox; wait for something while there is nothing to do."""
        self.rounds.release_quarantine()
        is_idle = not self._ordered.decoding and not any(map(self._is_ready, self.roster.running))
        if is_idle:
            self._flush()
        if is_idle and not self._take_one(self._idle_timeout_s()):
            self._check_when_idle()
        while not self._inbox.empty():
            self._take_one(0.0)
        now_ns = time.perf_counter_ns()
        for session in self.roster.drop_cancelled(self._ordered.sessions, now_ns):
            self.steps.drop(session, now_ns)

    def _is_ready(self, session: Session) -> bool:
        return not (session.is_decoding and is_paused(session, self._limits))

    def _idle_timeout_s(self) -> float | None:
        if self.roster.num_waiting or self._memory.quarantine.worker_ids:
            return POLL_S
        return None if self._is_checked else IDLE_CHECK_S

    def _check_when_idle(self) -> None:
        """Compare the memory's accounts once per idle time; a fault ends the worker."""
        if not self._is_checked:
            self._memory.check_integrity(self.roster.running)
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
                self.roster.enter(event.session)
            case Cancel():
                event.session.is_cancelled = True
            case DrafterReady():
                self.rounds.attach(event)
            case DrafterLost():
                self._make_homeless(self.rounds.detach(event))
            case Adopt():
                self.steps.adopt(event.session, event.prior, event.saved)
            case AdoptStream():
                if self.steps.search is not None:
                    self.steps.search.adopt(event.name, event.record)
            case WarmStart():
                self.steps.governor.costs.restore(event.cells)
            case MoveAll():
                self.roster.move_all(event.reason)
            case Stop():
                self._is_stopped = True
            case Wake():
                pass

    def _make_homeless(self, sessions: list[Session]) -> None:
        """Queue sessions that lost their pages again; they are replayed from their ids."""
        for session in sessions:
            # The lost round was ordered: its key is used up.
            session.round_index += 1
            if session.trace is not None:
                session.trace.forget_order()
            self.roster.put_back(session)
        left = tuple(each for each in self._ordered.decoding if each[0].table is not None)
        self._ordered = replace(self._ordered, decoding=left)

    def _flush(self) -> None:
        if self.roster.events:
            self._emit(self.roster.events)
            self.roster.events = []

    # --- a pass ---------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        """Plan for the sessions that have no round in flight, on pages that they have."""
        in_flight = self._ordered.sessions
        free = [session for session in self.roster.running if session not in in_flight]
        started_ns = time.perf_counter_ns()
        plan = self._plans.next(
            free,
            has_draft_worker=self.rounds.has_draft_worker,
            reads_exits=self.rounds.reads_alike,
        )
        self._decide_ns = time.perf_counter_ns() - started_ns
        num_drafting = len(plan.drafting) + len(in_flight)
        self._is_overlapped = self._overlap.choose(num_drafting)
        if self._is_overlapped:
            # Half of them at a time, so that there is always another half to verify.
            half = -(-num_drafting // 2)
            plan = replace(plan, decoding=(*plan.plain, *plan.drafting[:half]))
        return fit_to_pages(plan, self._memory, self.roster, in_flight)

    def _order(self, plan: Plan) -> tuple[Plan, Ordered]:
        """Order a plan's drafts; return what to run now, and whose drafts that waits for.

        What the last pass emitted goes out behind the order, while the draft worker runs: sending
        it takes the event loop longer than the order does. Settings are tuned there, too.
        """
        sent_ns = time.perf_counter_ns()
        drafting = tuple(plan.drafting)
        if drafting:
            self._runner.hand_over()
            self.rounds.send(make_tasks(drafting, plan.shadow))
        self._flush()
        self.steps.governor.tune()
        search = self.steps.search
        self._has_looked = search is not None and search.look(self.roster.running)
        before = self._ordered
        if self._is_overlapped:
            self._ordered = Ordered(drafting, sent_ns, shadow=shadow_of(drafting, plan.shadow))
            due = replace(before, wait_from_ns=time.perf_counter_ns())
        else:
            self._ordered = NOTHING
            due = Ordered((*before.decoding, *drafting), before.sent_ns or sent_ns, sent_ns)
        shadow = {**plan.shadow, **before.shadow}
        return replace(plan, decoding=(*due.decoding, *plan.plain), shadow=shadow), due

    def _collect(self, ordered: Ordered) -> dict[str, Draft]:
        """Wait for the drafts of a pass; what is overdue goes on without."""
        deadline_ns = ordered.sent_ns + self.rounds.timeout_ns
        while self.rounds.waits_for(session for session, _ in ordered.decoding):
            left_s = max(0.0, (deadline_ns - time.perf_counter_ns()) / 1e9)
            # An answer that is in is taken, however long it took.
            if not self._take_one(left_s) and left_s == 0.0:
                log.warning("rounds overdue: going on without drafts")
                self._make_homeless(self.rounds.abandon())
        return self.rounds.collect(session for session, _ in ordered.decoding)
