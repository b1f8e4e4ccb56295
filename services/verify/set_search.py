"""The search for skip sets beside the decoding: looks at committed text, a small share of the time.

    step | step | look | step | step | step | look | step ...

    window   W tokens that a stream's sessions committed, in one or more pieces
    look     one set on one piece: a teacher-forced pass whose KV lies in a workspace
    trial    every set of it looked at on the same window, then told to the stream's search

A look is taken while drafts are in the making and never holds a step up for more than itself; it is
paid from the share of the steps' time that was saved before. Nothing is held between two looks: a
session that ends takes an unfinished piece with it. Owned by the engine's thread.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.verify.memory import SessionMemory
from services.verify.session import Session, SessionRequest
from services.verify.workspace import workspace
from shared.control.load_governor import LoadGovernor
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.set_search import Trial
from shared.control.skip_search.stream_book import StreamBook
from shared.control.skip_search.stream_record import StreamRecord
from shared.control.skip_search.task_stream import TaskStream
from shared.control.skip_search.windows import Piece, next_piece
from shared.control.steps import RoundOutcome
from shared.errors import PoolExhausted
from shared.model.sampling import RowChoice
from shared.model.skip_scores import SkipScorer
from shared.speculation.arm import arm_of
from shared.speculation.cost_model import expected_tokens
from shared.speculation.skip_set import SkipSet
from shared.speculation.vocabulary import OFF, SWIFT

# What drafts by a skip set are known by.
SKIPPING = arm_of(SWIFT, 0)
# Draft lengths at which a stream's speed is predicted.
PREDICTED_LENS = (1, 2, 4, 8)
# Rounds of a stream between two words to the store.
KEEP_ROUNDS = 64
NO_PIECE = Piece(0, 0)


class StreamStore(Protocol):
    """Where records outlive the process; called from the engine's thread, waited for by nobody."""

    def want(self, name: str) -> None:
        """Ask for a stream's record; an answer comes through the engine's inbox."""
        ...

    def keep(self, name: str, record: StreamRecord) -> None:
        """Let a stream's record be written."""
        ...


@dataclass(slots=True)
class _Job:
    """A trial that is under way: the piece in hand, and what was told by pieces before."""

    trial: Trial
    matches: dict[SkipSet, int] = field(default_factory=dict)
    num_answers: int = 0
    session: Session | None = None
    piece: Piece = NO_PIECE
    in_hand: dict[SkipSet, int] = field(default_factory=dict)

    def next_set(self) -> SkipSet | None:
        """Return a set that has not seen the piece in hand; None: all have."""
        return next((each for each in self.trial.sets if each not in self.in_hand), None)

    def begin(self, session: Session, piece: Piece) -> None:
        """Take a piece in hand."""
        self.session, self.piece, self.in_hand = session, piece, {}

    def finish_piece(self) -> None:
        """Add the piece in hand to the window."""
        for each, count in self.in_hand.items():
            self.matches[each] = self.matches.get(each, 0) + count
        self.num_answers += self.piece.num_answers
        self.session = None

    def scores(self) -> dict[SkipSet, float]:
        """Return the share of answers that every set chose."""
        return {each: self.matches[each] / self.num_answers for each in self.trial.sets}


def stream_name(tenant: str, task_key: str) -> str:
    """Return the name of a task's stream; what names no task shares one."""
    return f"{tenant}\0{task_key}" if task_key else ""


class SetSearcher:
    """Runs the searches of a cell's streams."""

    def __init__(
        self,
        book: StreamBook,
        budget: SearchBudget,
        scorer: SkipScorer,
        memory: SessionMemory,
        governor: LoadGovernor,
        store: StreamStore | None = None,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.book = book
        self.budget = budget
        self._scorer = scorer
        self._memory = memory
        self._governor = governor
        self._store = store
        self._now_ns = now_ns
        self._num_sessions = 0
        self._jobs: dict[str, _Job] = {}
        # By session: the end of what was scored.
        self._scored_to: dict[str, int] = {}
        self._asked: set[str] = set()
        self._rounds_unkept = 0
        self._looked_ns = 0
        self.num_looks = 0
        self.num_looked_ns = 0

    # --- sessions -------------------------------------------------------------------------------

    def open(self, session: Session) -> None:
        """Give a session that may draft by swift its stream; others get none."""
        request = session.request
        if session.stream is not None or not _may_skip(request):
            return
        name = stream_name(request.tenant, request.task_key)
        session.stream = self.book.open(name)
        self._num_sessions += 1
        if self._store is not None and name not in self._asked:
            self._asked.add(name)
            self._store.want(name)

    def close(self, session: Session) -> None:
        """Take a session off its stream at its end."""
        if session.stream is None:
            return
        session.stream.note_reply(session.num_emitted)
        self.book.close(session.stream)
        self._num_sessions -= 1
        self._scored_to.pop(session.session_id, None)
        session.stream = None
        self._keep()

    def adopt(self, name: str, record: StreamRecord) -> None:
        """Take what the store knows of a stream."""
        self.book.adopt(name, record)

    def note_round(self, session: Session, outcome: RoundOutcome) -> None:
        """Take a committed round; what its siblings hit says nothing of the set."""
        if session.stream is None or outcome.decision.method not in (SWIFT, OFF):
            return
        session.stream.note_round(session.skip_set, outcome.depth, outcome.num_on_chain)
        self._rounds_unkept += 1
        if self._rounds_unkept >= KEEP_ROUNDS:
            self._keep()

    def note_step(self, step_ns: int) -> None:
        """Take the time of a step, a look in it included."""
        if self._num_sessions:
            self.budget.earn(step_ns - self._looked_ns)
        self._looked_ns = 0

    def _keep(self) -> None:
        self._rounds_unkept = 0
        if self._store is not None:
            for stream in self.book.take_changed():
                self._store.keep(stream.name, stream.record)

    # --- looks ----------------------------------------------------------------------------------

    def look(self, running: Sequence[Session]) -> bool:
        """Take one look if it is paid for and there is something to look at; say whether it was."""
        if not self._num_sessions:
            return False
        window_len = self.book.options.window_len
        guess_ns = self._governor.costs.pass_ns({0: window_len})
        if not self.budget.can_pay(self.budget.expected_ns(window_len, guess_ns)):
            return False
        for stream in self.book:
            job = self._job_of(stream) if stream.num_sessions else None
            if job is not None and self._has_piece(stream, job, running):
                return self._look_at(stream, job)
        return False

    def _job_of(self, stream: TaskStream) -> _Job | None:
        """Return the stream's trial under way, or begin one."""
        job = self._jobs.get(stream.name)
        if job is not None and job.trial.incumbent == stream.record.skip_set:
            return job
        trial = stream.next_trial(self.book.options.interval_rounds, self.book.neighbours(stream))
        self._jobs.pop(stream.name, None)
        if trial is None:
            return None
        job = self._jobs[stream.name] = _Job(trial)
        return job

    def _has_piece(self, stream: TaskStream, job: _Job, running: Sequence[Session]) -> bool:
        """Say whether a job has a piece in hand, after having taken one where it can."""
        if job.session is not None and job.session.stream is stream and job.session in running:
            return job.session.is_decoding
        options = self.book.options
        for session in running:
            if session.stream is not stream or not session.is_decoding:
                continue
            piece = next_piece(
                session.prompt_len,
                session.committed_len,
                self._scored_to.get(session.session_id, 0),
                options.window_len - job.num_answers,
                options.window_len,
                stream.record.reply_len,
            )
            if piece is not None:
                job.begin(session, piece)
                return True
        job.session = None
        return False

    def _look_at(self, stream: TaskStream, job: _Job) -> bool:
        """Score the next set on the piece in hand; behind the last one the piece is done."""
        skip_set = job.next_set()
        assert skip_set is not None and job.session is not None
        num_rows = job.piece.num_answers
        expected_ns = self.budget.expected_ns(num_rows, None) or 0.0
        started_ns = self._now_ns()
        try:
            job.in_hand[skip_set] = self._count_matches(skip_set, job.session, job.piece)
        except PoolExhausted:
            return False
        self._looked_ns = self._now_ns() - started_ns
        self.budget.pay(num_rows, expected_ns or float(self._looked_ns), self._looked_ns)
        self.num_looks += 1
        self.num_looked_ns += self._looked_ns
        if job.next_set() is None:
            self._scored_to[job.session.session_id] = job.piece.end
            job.finish_piece()
            if job.num_answers >= self.book.options.window_len:
                self._finish(stream, job)
        return True

    def _count_matches(self, skip_set: SkipSet, session: Session, piece: Piece) -> int:
        """Return how many answers of a piece the model less a set would have drafted."""
        start, end = piece.first - 1, piece.end - 1
        answers = session.tokens[piece.first : piece.end]
        with workspace(self._memory, session, start, end) as table:
            inputs = session.tokens[start:end]
            rows = _choices_wanted(session, piece)
            found = self._scorer.choices(skip_set, table, inputs, start, rows)
        return sum(a == b for a, b in zip(found, answers, strict=True))

    def _finish(self, stream: TaskStream, job: _Job) -> None:
        del self._jobs[stream.name]
        stream.note_trial(job.trial, job.scores())
        stream.note_speedup(self._predicted_speedup(stream.record))
        self.book.share_sets()
        self._keep()

    def _predicted_speedup(self, record: StreamRecord) -> float | None:
        """Return the best speed over plain decoding that drafts are predicted to bring."""
        plain_ns = self._governor.round_ns(SKIPPING, 0)
        found = [
            expected_tokens(record.acceptance, draft_len) * plain_ns / round_ns
            for draft_len in PREDICTED_LENS
            if record.acceptance is not None
            and plain_ns is not None
            and (round_ns := self._governor.round_ns(SKIPPING, draft_len)) is not None
        ]
        return max(found, default=None)


def _choices_wanted(session: Session, piece: Piece) -> list[RowChoice]:
    """Return what choosing each answer needs: the session's own noise and processors."""
    sampling, prompt_len = session.request.sampling, session.prompt_len
    return [
        RowChoice(
            sampling,
            position,
            prompt_len,
            session.tokens[:position] if sampling.needs_history else (),
        )
        for position in range(piece.first, piece.end)
    ]


def _may_skip(request: SessionRequest) -> bool:
    """Whether a session drafts by swift, or may come to."""
    return request.wished.method == SWIFT or SKIPPING in request.arms
