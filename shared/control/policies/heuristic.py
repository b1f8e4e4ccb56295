"""Draft lengths by the last round alone: all kept, go further; else draw back. Pure.

    heuristic   all d kept: d + 1, else d - 1; starts at the default's length
    hf          all d kept: d + 2, else d - 1; starts at 5, as Hugging Face's assisted generation

Never less than one draft: these rules know no costs and cannot tell that drafting does not pay.
Exit layer and threshold are the default's.
"""

from dataclasses import dataclass, replace

from shared.control.evidence.observation import Observation
from shared.control.policies.base import PolicyContext
from shared.speculation.vocabulary import OFF, Decision


@dataclass(frozen=True, slots=True)
class LengthRule:
    """How far a draft length moves after a round.

    rise: where all drafts were kept; fall: where not.
    first_len: of the first round; None: the default's.
    """

    name: str
    rise: int
    fall: int
    first_len: int | None = None


PLUS_MINUS_ONE = LengthRule("heuristic", 1, 1)
HUGGING_FACE = LengthRule("hf", 2, 1, 5)


class Heuristic:
    """Follows one length rule for one session."""

    wants_full_shadow = False

    def __init__(self, context: PolicyContext, rule: LengthRule = PLUS_MINUS_ONE) -> None:
        """Begin at the rule's first length."""
        self._rule = rule
        self._max_len = context.max_draft_len
        first_len = rule.first_len
        self._draft_len = self._clip(
            context.default.max_draft_len if first_len is None else first_len
        )

    @property
    def name(self) -> str:
        """The rule's name."""
        return self._rule.name

    def wish(self, default: Decision) -> Decision:
        """Return the default with the length of the rule."""
        if default.method == OFF:
            return default
        return replace(default, max_draft_len=self._draft_len, reason="policy")

    def note(
        self, decision: Decision, num_drafted: int, num_accepted: int, observation: Observation
    ) -> None:
        """Move the length after a round with drafts.

        Where others shortened the round, all kept says nothing of the length that was wished.
        """
        if not num_drafted:
            return
        draft_len = self._draft_len
        if num_accepted < num_drafted:
            draft_len -= self._rule.fall
        elif decision.max_draft_len >= draft_len:
            draft_len += self._rule.rise
        self._draft_len = self._clip(draft_len)

    def note_prompt(self, observation: Observation) -> None:
        """Learn nothing."""

    def _clip(self, draft_len: int) -> int:
        return max(1, min(draft_len, self._max_len))
