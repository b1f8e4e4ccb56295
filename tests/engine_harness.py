"""A cell without its network: the verify engine in this process, with a drafter of choice.

    FusedDrafter   the engine's own layer stack drafts, on the engine's thread
    SplitDrafter   a second layer stack drafts through a DraftEngine, in the same /dev/shm segment,
                   and every round goes through its message
    NoDrafter      nobody does

What a test hooks in (a policy, an observer) runs on the engine's thread behind every commit.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from services.draft.attachment import Attachment
from services.draft.engine import DraftEngine, DraftJob
from services.verify.cell import layout_to_proto
from services.verify.committer import Committer
from services.verify.drafter import Drafter, DrafterReady, DraftsArrived, Inbox, NoDrafter
from services.verify.engine import VerifyEngine
from services.verify.events import Cancel, Submit
from services.verify.local_drafter import LocalDrafter
from services.verify.memory import PrefixSharing, SessionMemory
from services.verify.pass_runner import PassRunner
from services.verify.roster import Roster
from services.verify.rounds import Rounds
from services.verify.scheduler import SchedulerLimits
from services.verify.session import (
    Emitted,
    Finished,
    Moved,
    Session,
    SessionEvent,
    SessionRequest,
    Started,
)
from services.verify.step_log import StepLog
from services.verify.waiting_room import AdmissionLimits, WaitingRoom
from shared.control.overlap import Overlap, OverlapChooser
from shared.errors import ShortstackError
from shared.ids import SessionId, TokenId
from shared.model.kv_pool import KVPool, PoolLayout
from shared.model.layer_stack import LayerStack
from shared.model.page_table import num_pages_for
from shared.model.segment import LocalSegment, Segment, ShmSegment
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import draft_adapters_to_proto, identity_to_proto
from shared.rpc.rounds import draft_from_proto, draft_to_proto, task_from_proto, task_to_proto
from shared.speculation.vocabulary import (
    PLAIN_DECISION,
    Decision,
    Draft,
    FinishReason,
    RoundTask,
    SamplingParams,
    SpeculationSummary,
    StopParams,
    TokenSource,
)

BOOT_ID = 77
GREEDY = SamplingParams()
WORKER_ID = "draft-0"
TIMEOUT_S = 30.0

Policy = Callable[[Session], Decision]
Observer = Callable[[Session, Emitted], None]


@dataclass(frozen=True)
class HarnessOptions:
    """Sizes and limits of a cell under test; num_pages 0 gives every session a full context.

    Sessions draft as they wish, whatever the load, unless `sheds` is set.
    """

    page_size: int = 4
    num_pages: int = 0
    max_sessions: int = 4
    max_waiting: int = 8
    max_draft_len: int = 7
    prefill_chunk_len: int = 512
    max_unread: int = 1 << 20
    queue_timeout_ms: int = 30_000
    round_timeout_ms: int = 30_000
    prefix_sharing: PrefixSharing = "all"
    sheds: bool = False
    overlap: bool = False


class CellDrafter(Drafter, Protocol):
    """A drafter with an end."""

    def close(self) -> None:
        """End whatever runs."""
        ...


MakeDrafter = Callable[["EngineHarness", Inbox], CellDrafter]


class FusedDrafter(LocalDrafter):
    """The engine's own stack drafts."""

    def __init__(self, cell: "EngineHarness", inbox: Inbox) -> None:
        super().__init__(cell.stack, cell.pool, inbox)

    def close(self) -> None:
        """Nothing runs."""


class SplitDrafter:
    """A DraftEngine with a stack of its own, attached to the cell's segment; no gRPC."""

    def __init__(self, cell: "EngineHarness", inbox: Inbox, stack: LayerStack) -> None:
        self._inbox = inbox
        self._max_rows = cell.pool.layout.max_rows
        self._vocab_size = stack.config.vocab_size
        self.stack = stack
        self.attachment = Attachment(attach_request(cell.pool, cell.stack), stack)
        assert self.attachment.check_word == BOOT_ID
        self.engine = DraftEngine(stack, cell.fail)
        self.engine.start()

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Send the tasks through their messages, both ways."""
        messages = [task_to_proto(task, BOOT_ID, self._max_rows) for task in tasks]
        parsed = [pb.RoundTask.FromString(message.SerializeToString()) for message in messages]
        job_tasks = tuple(task_from_proto(message, self._vocab_size) for message in parsed)
        job = DraftJob(self.attachment, job_tasks, self._answer, time.perf_counter_ns())
        self.engine.submit(job)

    def _answer(self, drafts: list[Draft]) -> None:
        sent = [draft_to_proto(draft).SerializeToString() for draft in drafts]
        arrived = tuple(draft_from_proto(pb.RoundDraft.FromString(each)) for each in sent)
        self._inbox(DraftsArrived(arrived))

    def close(self) -> None:
        """End the draft engine's thread."""
        self.engine.stop()


def split_with(stack: LayerStack) -> MakeDrafter:
    """Return what makes a split drafter over a stack."""
    return lambda cell, inbox: SplitDrafter(cell, inbox, stack)


class PlainCell(NoDrafter):
    """Nobody drafts."""

    def __init__(self, cell: "EngineHarness", inbox: Inbox) -> None:
        pass

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class Recorded:
    """A session and everything that its stream was told."""

    session: Session
    events: list[SessionEvent] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def put(self, event: SessionEvent) -> None:
        """Take an event."""
        self.events.append(event)
        if isinstance(event, (Finished, Moved, ShortstackError)):
            self.done.set()

    def wait(self) -> "Recorded":
        """Wait for the session's end and return this."""
        assert self.done.wait(TIMEOUT_S), f"session {self.session.session_id} did not end"
        return self

    @property
    def rounds(self) -> list[Emitted]:
        """Rounds that emitted, in order."""
        return [event for event in self.events if isinstance(event, Emitted)]

    @property
    def token_ids(self) -> list[int]:
        """Emitted ids."""
        return [token for each in self.rounds for token in each.token_ids]

    @property
    def sources(self) -> list[TokenSource]:
        """Where each emitted id came from."""
        return [source for each in self.rounds for source in each.sources]

    @property
    def was_started(self) -> bool:
        """Whether the session was admitted."""
        return any(isinstance(event, Started) for event in self.events)

    @property
    def finished(self) -> Finished:
        """The last event of a session that ended in order."""
        last = self.events[-1]
        assert isinstance(last, Finished), f"ended with {last!r}"
        return last

    @property
    def reason(self) -> FinishReason:
        """Why it ended."""
        return self.finished.reason

    @property
    def summary(self) -> SpeculationSummary:
        """What speculation did."""
        return self.finished.summary

    @property
    def error(self) -> ShortstackError:
        """The error that a session was refused with."""
        last = self.events[-1]
        assert isinstance(last, ShortstackError), f"ended with {last!r}"
        return last


class ObservedCommitter(Committer):
    """A committer with a call behind every commit, on the engine's thread, with the pages held."""

    def __init__(self, on_commit: Observer, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._on_commit = on_commit

    def commit_round(self, session: Session, *arguments: Any) -> Emitted:
        emitted = super().commit_round(session, *arguments)
        self._on_commit(session, emitted)
        return emitted


class EngineHarness:
    """One cell; a context manager that checks the memory's accounts at its end."""

    def __init__(
        self,
        stack: LayerStack,
        make_drafter: MakeDrafter = FusedDrafter,
        options: HarnessOptions = HarnessOptions(),
        *,
        policy: Policy | None = None,
        observer: Observer | None = None,
        liveness_path: Path | None = None,
    ) -> None:
        self.stack = stack
        self._policy = policy
        self._observer = observer
        self._recorded: dict[int, Recorded] = {}
        self.failures: list[BaseException] = []
        layout = make_layout(stack, options)
        segment: Segment = LocalSegment(layout.size_bytes, stack.device)
        if make_drafter not in (FusedDrafter, PlainCell):
            segment.close()
            segment = ShmSegment(layout.size_bytes)
        self.pool = KVPool(segment, layout)
        self.pool.check_word.fill_(BOOT_ID)
        context_len = stack.config.max_context_len
        self.memory = SessionMemory(self.pool, context_len, options.prefix_sharing)
        scheduler = SchedulerLimits(
            context_len,
            layout.max_rows,
            options.prefill_chunk_len,
            options.max_unread,
            options.sheds,
        )
        admission = AdmissionLimits(
            options.max_sessions, options.max_waiting, options.queue_timeout_ms
        )
        self.roster = Roster(WaitingRoom(admission, self.memory), self.memory)
        self.runner = PassRunner(stack, self.pool)
        steps = StepLog(stack.config.num_layers)
        self.engine = VerifyEngine(
            scheduler,
            self.roster,
            self.memory,
            self.runner,
            _deliver,
            self.fail,
            steps,
            OverlapChooser(Overlap.ON if options.overlap else Overlap.OFF),
        )
        self.engine.committer = ObservedCommitter(
            self._on_commit, self.memory, self.roster, steps, context_len
        )
        self.drafter = make_drafter(self, self.engine.post)
        self.rounds = Rounds(
            self.drafter, self.memory, stack.config.vocab_size, options.round_timeout_ms
        )
        self._liveness_path = liveness_path

    def __enter__(self) -> "EngineHarness":
        self.engine.start(self.rounds)
        if not isinstance(self.drafter, PlainCell):
            self.engine.post(DrafterReady(WORKER_ID, self._liveness_path))
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.engine.stop()
            self.drafter.close()
            assert not self.failures, f"a worker thread failed: {self.failures[0]!r}"
            self.memory.check_integrity(self.roster.running)
        finally:
            self.pool.close()

    def fail(self, error: BaseException) -> None:
        """Note that a worker thread died, and release whoever waits for it."""
        self.failures.append(error)
        for recorded in self._recorded.values():
            recorded.done.set()

    def _on_commit(self, session: Session, emitted: Emitted) -> None:
        if self._observer is not None and session.table is not None:
            self._observer(session, emitted)
        self._decide(session)

    def _decide(self, session: Session) -> None:
        if self._policy is not None:
            session.request = replace(session.request, wished=self._policy(session))

    def open(self, request: SessionRequest, num_unread: Callable[[], int] = lambda: 0) -> Recorded:
        """Submit a session and return its record at once."""
        events: list[SessionEvent] = []
        session = Session(request, events.append, time.perf_counter_ns(), num_unread)
        recorded = Recorded(session)
        session.sink = recorded.put
        self._decide(session)
        self._recorded[id(session)] = recorded
        self.engine.post(Submit(session))
        return recorded

    def cancel(self, recorded: Recorded) -> None:
        """Tell the engine that the session's stream has ended."""
        self.engine.post(Cancel(recorded.session))

    def run(self, *requests: SessionRequest) -> list[Recorded]:
        """Run sessions side by side to their ends."""
        opened = [self.open(request) for request in requests]
        return [recorded.wait() for recorded in opened]

    def count_work(self) -> tuple[int, int]:
        """Return rows x layers and head rows that the verify side's stack has run."""
        return self.stack.num_row_layers, self.stack.num_head_rows


def _deliver(events: list[tuple[Session, SessionEvent]]) -> None:
    for session, event in events:
        session.sink(event)


def make_layout(stack: LayerStack, options: HarnessOptions) -> PoolLayout:
    """Return the layout of a cell's pool."""
    config = stack.config
    pages = num_pages_for(config.max_context_len, options.page_size) * options.max_sessions
    return PoolLayout(
        num_pages=options.num_pages or pages,
        page_size=options.page_size,
        num_kv_layers=stack.num_kv_layers,
        num_kv_heads=config.num_kv_heads,
        head_size=config.head_size,
        hidden_size=config.hidden_size,
        num_exit_slots=2 * options.max_sessions,
        max_rows=options.max_draft_len + 1,
        dtype_name=config.dtype_name,
    )


def attach_request(pool: KVPool, stack: LayerStack) -> pb.AttachRequest:
    """Return the message by which a draft worker attaches to a pool."""
    layout = pool.layout
    assert isinstance(pool.segment, ShmSegment)
    return pb.AttachRequest(
        worker_id="verify-0",
        boot_id=BOOT_ID,
        model=identity_to_proto(stack.config.identity("tiny")),
        layout=layout_to_proto(layout),
        segment=pb.SegmentHandle(shm_path=str(pool.segment.path), size_bytes=layout.size_bytes),
        draft_adapters=draft_adapters_to_proto(stack.adapter_weights),
    )


def make_request(
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    session_id: str = "ses-0",
    wished: Decision = PLAIN_DECISION,
    sampling: SamplingParams = GREEDY,
    stop_token_ids: Sequence[int] = (),
    min_new_tokens: int = 0,
    num_emitted: int = 0,
    num_logprobs: int | None = None,
) -> SessionRequest:
    """Return a session's request as a value."""
    return SessionRequest(
        session_id=SessionId(session_id),
        token_ids=tuple(TokenId(token) for token in prompt),
        num_emitted=num_emitted,
        sampling=sampling,
        stop=StopParams(max_new_tokens, frozenset(stop_token_ids), min_new_tokens),
        wished=wished,
        num_logprobs=num_logprobs,
    )
