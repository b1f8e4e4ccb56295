"""The acceptance of all sessions of a cell, and of each kind of draft. Pure."""

from dataclasses import dataclass, field

from shared.control.acceptance_estimate import AcceptanceEstimate, AcceptancePool
from shared.control.step_plan import Outlook
from shared.control.steps import RoundOutcome
from shared.speculation.vocabulary import Decision

# Method, exit layer, stop threshold in tenths: near thresholds share, as requests may ask for any.
Kind = tuple[str, int, int]


@dataclass(slots=True)
class _Session:
    """One session's estimates by kind, its rounds, and the last of them that had a draft."""

    estimates: dict[Kind, AcceptanceEstimate] = field(default_factory=dict)
    num_rounds: int = 0
    last_draft: int = 0


class AcceptanceBook:
    """Knows sessions from `open` to `forget`."""

    def __init__(self) -> None:
        """Begin without sessions."""
        self._pools: dict[Kind, AcceptancePool] = {}
        self._sessions: dict[str, _Session] = {}

    def __contains__(self, key: str) -> bool:
        """Whether a session is open."""
        return key in self._sessions

    def open(self, key: str) -> None:
        """Begin to know a session; nothing if it is known."""
        if key not in self._sessions:
            self._sessions[key] = _Session()

    def forget(self, key: str) -> None:
        """Forget a session; its pool keeps what it showed. Unknown keys are fine."""
        self._sessions.pop(key, None)

    def kept(self, key: str, decision: Decision, num_places: int) -> list[float]:
        """Return P(the first j drafts are kept) of an open session, for j in [1, num_places]."""
        session = self._sessions[key]
        num_rounds_off = session.num_rounds - session.last_draft
        return self._estimate(session, decision).kept(num_places, num_rounds_off)

    def outlook(self, key: str, wished: Decision, resume_layer: int, *, is_pinned: bool) -> Outlook:
        """Return what an open session's draft would bring and take, up to its wish."""
        num_places = wished.max_draft_len
        made: tuple[float, ...] | list[float] = (1.0,) * num_places
        # Without a threshold a draft stops by itself only where the session ends.
        if wished.stop_threshold > 0.0:
            session = self._sessions[key]
            num_rounds_off = session.num_rounds - session.last_draft
            made = self._estimate(session, wished).made(num_places, num_rounds_off)
        kept = self.kept(key, wished, num_places)
        return Outlook(kept, made, wished.exit_layer, resume_layer, is_pinned)

    def num_rounds_of(self, decision: Decision) -> int:
        """Return how many rounds of all sessions had a draft of this kind."""
        pool = self._pools.get(_kind(decision))
        return pool.num_rounds if pool else 0

    def note(self, each: RoundOutcome) -> None:
        """Take a round of an open session; one whose draft was lost says nothing of it."""
        session = self._sessions[each.key]
        session.num_rounds += 1
        if not each.num_drafted or each.decision.is_off:
            return
        num_rounds_since = session.num_rounds - session.last_draft
        session.last_draft = session.num_rounds
        self._estimate(session, each.decision).note(
            each.decision.max_draft_len, each.num_drafted, each.num_accepted, num_rounds_since
        )

    def _estimate(self, session: _Session, decision: Decision) -> AcceptanceEstimate:
        kind = _kind(decision)
        estimate = session.estimates.get(kind)
        if estimate is None:
            pool = self._pools.setdefault(kind, AcceptancePool())
            estimate = session.estimates[kind] = AcceptanceEstimate(pool)
        return estimate


def _kind(decision: Decision) -> Kind:
    return (decision.method, decision.exit_layer, round(10 * decision.stop_threshold))
