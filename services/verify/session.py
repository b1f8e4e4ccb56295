"""A session: one sequence in this cell, from admission to the end of its stream.

Owned by the engine's thread. Between rounds `tokens` are final, KV of all layers holds positions
[0, num_run), and after the prefill num_run = committed_len - 1: the last token is pending.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.verify.round_spans import SessionTrace
from services.verify.stored_evidence import OpenSession
from shared.control.evidence.observation import Observation
from shared.control.evidence.prior import Prior
from shared.control.fair_queue import Priority
from shared.control.policies.base import SessionPolicy
from shared.control.policies.static import NAME as STATIC
from shared.control.skip_search.task_stream import TaskStream
from shared.control.steps import TreeOutcome
from shared.errors import ShortstackError
from shared.ids import SessionId, TokenId
from shared.model.page_table import PageTable
from shared.speculation.skip_set import NOTHING_SKIPPED, SkipSet
from shared.speculation.vocabulary import (
    SWIFT,
    Decision,
    Extent,
    FinishReason,
    RoundTask,
    SamplingParams,
    SpeculationSummary,
    StopParams,
    TokenSource,
)

Logprobs = tuple[float, list[tuple[int, float]]]


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a session is asked to do, checked."""

    session_id: SessionId
    token_ids: tuple[TokenId, ...]
    num_emitted: int
    sampling: SamplingParams
    stop: StopParams
    wished: Decision
    num_logprobs: int | None = None
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    # Whether its speculation is never shed.
    is_pinned: bool = False
    # What decides its rounds, and the arms that this may choose from.
    policy: str = STATIC
    arms: tuple[int, ...] = ()
    # The conversation it goes on with; empty: none.
    session_key: str = ""
    # The kind of text among those of its tenant; empty: unknown.
    task_key: str = ""


@dataclass(frozen=True, slots=True)
class Emitted:
    """Tokens of one round, for the stream, and what stays in the worker.

    observation: what the exits showed.
    path: the nodes of a tree that are among the tokens.
    tree: see `RoundOutcome`.
    """

    round_index: int
    token_ids: tuple[TokenId, ...]
    sources: tuple[TokenSource, ...]
    logprobs: tuple[Logprobs, ...]
    decision: Decision
    draft_len: int
    observation: Observation | None = None
    path: tuple[int, ...] = ()
    tree: TreeOutcome | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a session, for the stream."""

    reason: FinishReason
    stop_token_id: int | None
    summary: SpeculationSummary
    timings: "Timings"
    num_cached: int = 0
    num_preemptions: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The session has its pages; so many of its tokens came from the prefix cache."""

    num_cached: int = 0


@dataclass(frozen=True, slots=True)
class Moved:
    """The session must go on in another cell."""

    reason: str


SessionEvent = Started | Emitted | Finished | Moved | ShortstackError
Sink = Callable[[SessionEvent], None]


@dataclass(slots=True)
class Timings:
    """Times of a session, ns."""

    queue_ns: int = 0
    prefill_ns: int = 0
    decode_ns: int = 0
    draft_ns: int = 0
    verify_ns: int = 0


def never() -> bool:
    """Return False."""
    return False


@dataclass(slots=True, eq=False)
class Session:
    """The state of a session.

    `is_decoding` from the first commit behind an admission on: only the last token is pending. So a
    session that lost its memory gains a token by every replay, whatever its draft worker does.
    """

    request: SessionRequest
    sink: Sink
    arrived_ns: int
    num_unread: Callable[[], int]
    session_id: SessionId = field(init=False)
    tokens: list[TokenId] = field(default_factory=list)
    table: PageTable | None = None
    exit_slot: int = -1
    # Whom the allocator keeps pages behind the table for; another one at every admission.
    page_owner: int = 0
    # Full pages of the table that the prefix cache was told of.
    num_published: int = 0
    # Prompt tokens that came from the prefix cache at the first admission.
    num_cached: int = 0
    num_preemptions: int = 0
    num_run: int = 0
    is_decoding: bool = False
    round_index: int = 0
    admitted_ns: int = 0
    first_token_ns: int = 0
    is_cancelled: bool = False
    # Of the trace that its call belongs to, if any.
    trace_id: str | None = None
    # What proposes its rounds; None: its wish, or the load governor for all sessions together.
    policy: SessionPolicy | None = None
    # What the control store knows it by, and whether an operator has turned its drafts off.
    opened: OpenSession | None = None
    is_killed: Callable[[], bool] = never
    carried: tuple[Prior | None, bytes | None] | None = None
    # The sampled trace that it belongs to; None: it is not traced.
    trace: SessionTrace | None = None
    # Of method swift: its task stream, and what its last round was drafted without.
    stream: TaskStream | None = None
    skip_set: SkipSet = NOTHING_SKIPPED
    summary: SpeculationSummary = field(default_factory=SpeculationSummary)
    timings: Timings = field(default_factory=Timings)

    def __post_init__(self) -> None:
        self.tokens = list(self.request.token_ids)
        # Ids from outside may come twice, at once or in turn; the key of a round must not: a draft
        # worker answers a repeated round from memory.
        self.session_id = SessionId(f"{self.request.session_id}.{secrets.token_hex(4)}")

    @property
    def prompt_len(self) -> int:
        """Tokens of the client's prompt; those behind it were generated."""
        return len(self.request.token_ids) - self.request.num_emitted

    @property
    def committed_len(self) -> int:
        """n, the number of final tokens."""
        return len(self.tokens)

    @property
    def num_emitted(self) -> int:
        """Tokens generated, those before a replay included."""
        return len(self.tokens) - self.prompt_len

    def max_len(self, max_context_len: int) -> int:
        """Return the tokens that the session may have at its end."""
        return min(self.prompt_len + self.request.stop.max_new_tokens, max_context_len)

    def make_task(self, decision: Decision, shadow_exits: tuple[int, ...] = ()) -> RoundTask:
        """Return the session's next round as a task for a draft worker.

        shadow_exits: exits below the decision's that are to be read on the way.
        """
        assert self.table is not None
        skip_set, skip_version = NOTHING_SKIPPED, 0
        if decision.method == SWIFT and self.stream is not None:
            skip_set, skip_version = self.stream.skip_set, self.stream.version
            self.skip_set = skip_set
        return RoundTask(
            session_id=self.session_id,
            round_index=self.round_index,
            extents=self.table.extents,
            exit_slot=self.exit_slot,
            pending_tokens=(self.tokens[-1],),
            committed_len=len(self.tokens),
            prompt_len=self.prompt_len,
            decision=decision,
            sampling=self.request.sampling,
            stop_token_ids=self.request.stop.stop_token_ids,
            shadow_exits=shadow_exits,
            traceparent=self.trace.order(time.perf_counter_ns()) if self.trace else "",
            skip_set=skip_set,
            skip_version=skip_version,
        )

    def extents(self) -> tuple[Extent, ...]:
        """Return the pages held; none while waiting."""
        return self.table.extents if self.table else ()


def by_place(session: Session) -> tuple[bool, int]:
    """Order sessions: the first takes memory first and loses it last. Normal ones lead, by age."""
    return session.request.priority is Priority.LOW, session.arrived_ns
