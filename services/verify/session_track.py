"""What the controller did with one session: its last rounds and sums over all of them.

Written by the engine's thread alone and read by any. A writer appends to one deque and puts one
new tuple of totals in place of the old, a reader takes a copy of each: both are one step of the
interpreter, so nobody ever waits and no reader sees half a round. Holds no text and no token ids.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from shared.ids import SessionId
from shared.speculation.vocabulary import Decision, FinishReason

MAX_ROUNDS = 512
# Rounds over which the present speed is taken.
NUM_SPEED_ROUNDS = 32
# The reason of a round that the tokens left cut short.
LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One committed round.

    position: of the first token that it emitted.
    at_ns: since the session arrived; round_ns: since the commit before it.
    decision: as decided, with its reason; draft_len, num_accepted, num_emitted: as it came.
    is_alarm: what the round showed set off the change alarm.
    """

    round_index: int
    position: int
    at_ns: int
    decision: Decision
    draft_len: int
    num_accepted: int
    num_emitted: int
    is_alarm: bool
    round_ns: int


class Totals(NamedTuple):
    """Sums over all rounds of a session; tokens_len is its length in tokens, prompt included."""

    tokens_len: int
    num_rounds: int = 0
    num_plain_rounds: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_emitted_in_drafts: int = 0


@dataclass(frozen=True, slots=True)
class SessionState:
    """How a session stands.

    decision: of its last round, see `SessionTrack`; before that its wish, for no reason.
    """

    session_id: SessionId
    tenant: str
    policy: str
    decision: Decision
    prompt_len: int
    totals: Totals
    tokens_per_s: float
    arrived_ns: int
    finish_reason: FinishReason | None

    @property
    def num_emitted(self) -> int:
        """Tokens emitted, those before a replay included."""
        return self.totals.tokens_len - self.prompt_len

    @property
    def mean_emitted_len(self) -> float:
        """Tokens emitted per round with a draft; 0 without any."""
        num_drafts = self.totals.num_rounds - self.totals.num_plain_rounds
        return self.totals.num_emitted_in_drafts / num_drafts if num_drafts else 0.0


@dataclass(slots=True, eq=False)
class SessionTrack:
    """One session in the log. session_id is the one that its gateway knows."""

    session_id: SessionId
    tenant: str
    policy: str
    prompt_len: int
    wished: Decision
    arrived_ns: int
    totals: Totals
    last_commit_ns: int = 0
    finish_reason: FinishReason | None = None
    _rounds: deque[RoundRecord] = field(default_factory=lambda: deque(maxlen=MAX_ROUNDS))

    def note(self, record: RoundRecord, tokens_len: int) -> None:
        """Take a round; the session has tokens_len tokens after it."""
        was = self.totals
        is_plain = record.draft_len == 0
        self._rounds.append(record)
        self.totals = Totals(
            tokens_len,
            was.num_rounds + 1,
            was.num_plain_rounds + is_plain,
            was.num_draft_tokens + record.draft_len,
            was.num_accepted_tokens + record.num_accepted,
            was.num_emitted_in_drafts + (0 if is_plain else record.num_emitted),
        )

    def rounds(self) -> list[RoundRecord]:
        """Return the last rounds, oldest first; from any thread."""
        # `copy` and not `list`: it is made before it looks, and then looks at all in one go.
        return list(self._rounds.copy())

    def state(self) -> SessionState:
        """Return how the session stands; from any thread."""
        rounds = self.rounds()
        decision = self._last_decision(rounds) or replace(self.wished, reason="")
        return SessionState(
            self.session_id,
            self.tenant,
            self.policy,
            decision,
            self.prompt_len,
            self.totals,
            _speed(rounds[-NUM_SPEED_ROUNDS:]),
            self.arrived_ns,
            self.finish_reason,
        )

    def _last_decision(self, rounds: Sequence[RoundRecord]) -> Decision | None:
        """Return what was decided last; of a session that ended, before its end cut rounds short.

        Nearly every session ends with a round for which few tokens were left: it tells nothing.
        """
        if not rounds:
            return None
        if self.finish_reason is None:
            return rounds[-1].decision
        decisions = (each.decision for each in reversed(rounds) if each.decision.reason != LIMIT)
        return next(decisions, rounds[-1].decision)


def _speed(rounds: list[RoundRecord]) -> float:
    """Return tokens per second over rounds; 0 without any."""
    elapsed_ns = sum(each.round_ns for each in rounds)
    return sum(each.num_emitted for each in rounds) * 1e9 / elapsed_ns if elapsed_ns else 0.0
