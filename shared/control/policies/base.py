"""What a policy of single sessions is: evidence of one session in, its next decision out. Pure.

    verdict -> note(decision, drafted, accepted, observation)        once per round
    next round <- wish(default)                                      changes nothing

A wish is clamped to the session's room, overruled and shed behind the policy, so the round that is
noted may be another than the one that was wished.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from shared.control.evidence.observation import Observation
from shared.speculation.vocabulary import Decision

# C(E, k): ns of a round of k drafts at an exit, k = 0: of a plain step; None: not known yet.
RoundCost = Callable[[int, int], float | None]


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy is made for.

    exits: X, the exits that may draft, shallow first; each in [1, num_layers).
    num_layers: L.
    default: what the session would do without a policy.
    max_draft_len: the longest draft that anybody may make, at least 1.
    cost_ns: measured costs, for those policies that go by them.

    Raises:
        ValueError: the exits are not such, or there is no room for a draft.
    """

    exits: tuple[int, ...]
    num_layers: int
    default: Decision
    max_draft_len: int = 17
    cost_ns: RoundCost | None = None

    def __post_init__(self) -> None:
        if not self.exits or list(self.exits) != sorted(set(self.exits)):
            raise ValueError(f"exits must be given, each once and shallow first, not {self.exits}")
        if self.exits[0] < 1 or self.exits[-1] >= self.num_layers:
            raise ValueError(f"exits {self.exits} must lie in [1, {self.num_layers})")
        if self.max_draft_len < 1:
            raise ValueError(f"max_draft_len must be at least 1, not {self.max_draft_len}")


class SessionPolicy(Protocol):
    """Proposes the rounds of one session; an object per session, owned by one thread."""

    @property
    def name(self) -> str:
        """The name it is asked for by."""
        ...

    @property
    def wants_full_shadow(self) -> bool:
        """Whether every exit must be read at every position that is committed."""
        ...

    def wish(self, default: Decision) -> Decision:
        """Return the decision for the session's next round; asking again gives the same.

        Args:
            default: what the session would do now without a policy: it tells the method, and
                whatever the policy does not choose itself. Method `off`: returned as it is.
        """
        ...

    def note(
        self, decision: Decision, num_drafted: int, num_accepted: int, observation: Observation
    ) -> None:
        """Learn from a round, plain rounds included.

        Args:
            decision: as it was carried out, whoever made it.
            num_drafted: k, drafts verified; 0 of a plain round or a lost draft.
            num_accepted: a <= k.
            observation: what the exits said at the positions committed.
        """
        ...

    def note_prompt(self, observation: Observation) -> None:
        """Learn from the end of the prompt; called at most once, where every exit is wanted.

        Args:
            observation: what the exits said along the last positions of the prompt, matched with
                the full model's own choice there, not with the prompt's tokens.
        """
        ...
