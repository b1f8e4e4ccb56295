"""The static policy: the method, exit layer, draft length and threshold that the session asked for.

Pure. `clamp` runs behind every policy: no decision may ask for more than the session has room for.
"""

from dataclasses import dataclass, replace

from shared.speculation.vocabulary import PLAIN_DECISION, Decision

NAME = "static"


@dataclass(frozen=True, slots=True)
class Limits:
    """Room that one session has for its next round, in tokens."""

    tokens_left: int
    context_left: int
    max_rows: int

    @property
    def max_draft_len(self) -> int:
        """Longest draft: the round commits one token more, and hands over one row more."""
        return max(0, min(self.tokens_left - 1, self.context_left - 1, self.max_rows - 1))


def decide(wished: Decision, limits: Limits, *, has_draft_worker: bool) -> Decision:
    """Return the decision for a session's next round."""
    if wished.is_off:
        return PLAIN_DECISION
    if not has_draft_worker:
        return replace(PLAIN_DECISION, reason="no_draft_worker")
    return clamp(wished, limits)


def clamp(decision: Decision, limits: Limits) -> Decision:
    """Shorten a decision to what the session has room for; no room at all is off."""
    longest, most = limits.max_draft_len, max(0, limits.max_rows - 1)
    if decision.max_draft_len <= longest and decision.max_nodes <= most:
        return decision
    if longest == 0:
        return replace(PLAIN_DECISION, reason="limit")
    return decision.cut(longest, most, "limit")
