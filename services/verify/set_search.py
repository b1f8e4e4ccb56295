"""The search for skip sets beside the decoding: looks at committed text, a small share of the time.

    step | step ... step | look | step | look | step | look | step | step ...

    window   W tokens that a stream's sessions committed, in one or more pieces
    look     one set on one piece: a teacher-forced pass whose KV lies in a workspace
    trial    every set of it looked at on the same window, then told to the stream's search

A look is taken while drafts are in the making and never holds a step up for more than itself; those
of a trial come in a row, once the share of the steps' time that they take was saved: what a session
does not live to see the end of is lost. Nothing is held between two looks. Owned by the engine's
thread.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from services.verify.memory import SessionMemory
from services.verify.search_job import SearchJob
from services.verify.session import Session, SessionRequest
from services.verify.set_speed import SKIPPING, predicted_speedup
from services.verify.workspace import workspace
from shared.control.load_governor import LoadGovernor
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.stream_book import StreamBook
from shared.control.skip_search.stream_record import StreamRecord
from shared.control.skip_search.task_stream import TaskStream
from shared.control.skip_search.windows import Piece, next_piece
from shared.control.steps import RoundOutcome
from shared.errors import PoolExhausted
from shared.model.sampling import RowChoice
from shared.model.skip_scores import SkipScorer
from shared.speculation.skip_set import SkipSet
from shared.speculation.vocabulary import OFF, SWIFT

# Rounds of a stream between two words to the store.
KEEP_ROUNDS = 64
# Steps until it is asked again, where there was nothing to look at, or no page for it.
WAIT_STEPS = 8


class StreamStore(Protocol):
    """Where records outlive the process; called from the engine's thread, waited for by nobody."""

    def want(self, name: str) -> None:
        """Ask for a stream's record; an answer comes through the engine's inbox."""
        ...

    def keep(self, name: str, record: StreamRecord) -> None:
        """Let a stream's record be written."""
        ...


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
        self._jobs: dict[str, SearchJob] = {}
        # By session: the end of what was scored.
        self._scored_to: dict[str, int] = {}
        self._asked: set[str] = set()
        self._rounds_unkept = 0
        self._looked_ns = 0
        # What must be saved before anything is looked for; steps for which nothing is.
        self._due_ns: float | None = None
        self._num_to_wait = 0
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
        if not self._num_sessions or not self._is_worth_asking():
            return False
        for stream in self.book:
            job = self._job_of(stream) if stream.num_sessions else None
            if job is None:
                continue
            holder = self._holder(stream, job, running)
            if holder is not None:
                if holder.is_decoding:
                    return self._look_at(stream, job)
                continue
            found = self._next_piece(stream, job, running)
            if found is not None:
                # A piece that its session took with it would have been looked at for nothing.
                if not self._can_pay(len(job.trial.sets), found[1]):
                    return False
                job.begin(*found)
                return self._look_at(stream, job)
        self._num_to_wait = WAIT_STEPS
        return False

    def _is_worth_asking(self) -> bool:
        """Ask in few words, in every step, whether there may be something to look at."""
        if self._num_to_wait:
            self._num_to_wait -= 1
            return False
        return self._due_ns is None or self.budget.can_pay(self._due_ns)

    def _can_pay(self, num_looks: int, piece: Piece) -> bool:
        """Say whether so many looks at a piece are saved for; if not, until when to ask no more."""
        is_new, num_rows = not self.budget.is_measured, piece.num_answers
        guess_ns = self._governor.costs.pass_ns({0: num_rows}) if is_new else None
        look_ns = self.budget.expected_ns(num_rows, guess_ns)
        self._due_ns = None if look_ns is None else num_looks * look_ns
        return self.budget.can_pay(self._due_ns)

    def _job_of(self, stream: TaskStream) -> SearchJob | None:
        """Return the stream's trial under way, or begin one."""
        job = self._jobs.get(stream.name)
        if job is not None and job.trial.incumbent == stream.record.skip_set:
            return job
        trial = stream.next_trial(self.book.options.interval_rounds, self.book.neighbours(stream))
        self._jobs.pop(stream.name, None)
        if trial is None:
            return None
        job = self._jobs[stream.name] = SearchJob(trial)
        return job

    def _holder(
        self, stream: TaskStream, job: SearchJob, running: Sequence[Session]
    ) -> Session | None:
        """Return the session whose piece a job has in hand; that of one that is gone is dropped."""
        session = job.session
        if session is not None and (session.stream is not stream or session not in running):
            session = job.session = None
        return session

    def _next_piece(
        self, stream: TaskStream, job: SearchJob, running: Sequence[Session]
    ) -> tuple[Session, Piece] | None:
        """Return the next piece that a job may take in hand, and whose it is."""
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
                return session, piece
        return None

    def _look_at(self, stream: TaskStream, job: SearchJob) -> bool:
        """Score the next set on the piece in hand; behind the last one the piece is done."""
        skip_set = job.next_set()
        assert skip_set is not None and job.session is not None
        num_rows = job.piece.num_answers
        expected_ns = job.num_looks_left * (self.budget.expected_ns(num_rows, None) or 0.0)
        started_ns = self._now_ns()
        try:
            job.in_hand[skip_set] = self._count_matches(skip_set, job.session, job.piece)
        except PoolExhausted:
            self._num_to_wait = WAIT_STEPS
            return False
        self._looked_ns = self._now_ns() - started_ns
        self.budget.pay(num_rows, expected_ns or float(self._looked_ns), self._looked_ns)
        self._due_ns = None
        self.num_looks += 1
        self.num_looked_ns += self._looked_ns
        if job.next_set() is None:
            session = job.session
            self._scored_to[session.session_id] = job.piece.end
            job.finish_piece()
            if job.num_answers >= self.book.options.window_len:
                self._finish(stream, job, session)
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

    def _finish(self, stream: TaskStream, job: SearchJob, session: Session) -> None:
        del self._jobs[stream.name]
        stream.note_trial(job.trial, job.scores())
        stream.note_speedup(predicted_speedup(self._governor, session, stream.record))
        self.book.share_sets()
        self._keep()


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
