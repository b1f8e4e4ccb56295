"""Sessions and their rounds as plain values, and how they are read from the wire."""

from dataclasses import dataclass

from shared.errors import Internal
from shared.ids import CellId, SessionId
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import FinishReason


@dataclass(frozen=True, slots=True)
class SessionState:
    """How a session stands: ids, settings and counts, no text.

    method .. stop_threshold: of its last round; before its first one, as it wished.
    reason: why that round was as it was; empty before the first one.
    num_rounds: plain ones included; tokens_per_s: over the last rounds.
    finish_reason: None while it runs.
    """

    session_id: SessionId
    cell_id: CellId
    tenant: str
    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float
    policy: str
    reason: str
    prompt_len: int
    num_emitted: int
    num_rounds: int
    num_plain_rounds: int
    num_draft_tokens: int
    num_accepted_tokens: int
    tokens_per_s: float
    mean_emitted_len: float
    finish_reason: FinishReason | None
    age_ms: int

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.finish_reason is not None

    @property
    def is_plain(self) -> bool:
        """Whether its last round was to have no draft."""
        return self.max_draft_len == 0

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted / drafted; None when nothing was drafted."""
        if not self.num_draft_tokens:
            return None
        return self.num_accepted_tokens / self.num_draft_tokens


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    position: of the first token that it emitted; the prompt begins at 0.
    at_ns: since the session arrived at its cell; round_ns: since the commit before.
    """

    round_index: int
    position: int
    at_ns: int
    round_ns: int
    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float
    draft_len: int
    num_accepted: int
    num_emitted: int
    reason: str
    is_alarm: bool

    @property
    def is_plain(self) -> bool:
        """Whether nothing was drafted: as decided, or because the draft was lost."""
        return self.draft_len == 0


@dataclass(frozen=True, slots=True)
class SessionTimeline:
    """A session and its last rounds, oldest first, as many as its cell keeps."""

    session: SessionState
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class UnansweredCell:
    """A cell that did not answer, where it was asked and what came instead."""

    cell_id: CellId
    address: str
    error: str


@dataclass(frozen=True, slots=True)
class SessionList:
    """The sessions of all cells that answered."""

    sessions: tuple[SessionState, ...]
    unanswered_cells: tuple[UnansweredCell, ...] = ()


def list_from_proto(message: pb.ListSessionsResponse) -> SessionList:
    """Read a list of sessions."""
    return SessionList(
        tuple(map(_state, message.sessions)),
        tuple(
            UnansweredCell(CellId(each.cell_id), each.address, each.error)
            for each in message.unanswered_cells
        ),
    )


def timeline_from_proto(message: pb.GetSessionTimelineResponse) -> SessionTimeline:
    """Read a session's rounds.

    Raises:
        Internal: the columns of the rounds do not fit each other.
    """
    return SessionTimeline(_state(message.session), _rounds(message.rounds))


def _state(message: pb.SessionState) -> SessionState:
    return SessionState(
        session_id=SessionId(message.session_id),
        cell_id=CellId(message.cell_id),
        tenant=message.tenant,
        method=message.method,
        exit_layer=message.exit_layer,
        max_draft_len=message.max_draft_len,
        stop_threshold=_short(message.stop_threshold),
        policy=message.policy,
        reason=message.reason,
        prompt_len=message.prompt_len,
        num_emitted=message.num_emitted,
        num_rounds=message.num_rounds,
        num_plain_rounds=message.num_plain_rounds,
        num_draft_tokens=message.num_draft_tokens,
        num_accepted_tokens=message.num_accepted_tokens,
        tokens_per_s=message.tokens_per_s,
        mean_emitted_len=message.mean_emitted_len,
        finish_reason=FinishReason(message.finish_reason) if message.has_ended else None,
        age_ms=message.age_ms,
    )


def _rounds(columns: pb.RoundColumns) -> tuple[Round, ...]:
    methods, reasons = columns.method_names, columns.reason_names
    try:
        return tuple(
            Round(
                round_index,
                position,
                at_ns,
                round_ns,
                methods[method],
                exit_layer,
                max_draft_len,
                _short(stop_threshold),
                draft_len,
                num_accepted,
                num_emitted,
                reasons[reason],
                is_alarm,
            )
            for (
                round_index,
                position,
                at_ns,
                round_ns,
                method,
                exit_layer,
                max_draft_len,
                stop_threshold,
                draft_len,
                num_accepted,
                num_emitted,
                reason,
                is_alarm,
            ) in zip(
                columns.round_indices,
                columns.positions,
                columns.at_ns,
                columns.round_ns,
                columns.methods,
                columns.exit_layers,
                columns.max_draft_lens,
                columns.stop_thresholds,
                columns.draft_lens,
                columns.nums_accepted,
                columns.nums_emitted,
                columns.reasons,
                columns.are_alarms,
                strict=True,
            )
        )
    except (ValueError, IndexError) as error:
        raise Internal(f"the gateway sent rounds whose columns do not fit: {error}") from None


def _short(threshold: float) -> float:
    """Undo what the wire's 32 bits add to a number of few digits."""
    return round(threshold, 6)
