"""Contexts and observations that the policy tests share."""

from collections.abc import Mapping, Sequence

from shared.control.evidence.observation import Observation, Read
from shared.control.policies.base import PolicyContext, SessionPolicy
from shared.speculation.vocabulary import LAYERSKIP, Decision

DEFAULT = Decision(LAYERSKIP, 8, 4, 0.25, "default")
CONTEXT = PolicyContext((4, 8, 12, 16), 32, DEFAULT)
NOTHING = Observation(0)


def reads(bits: str, confidence: float = 0.5) -> list[Read | None]:
    """Return reads: 1 a match, 0 a mismatch, . not read; all of one confidence."""
    return [None if bit == "." else Read(bit == "1", confidence) for bit in bits]


def observed(bits: Mapping[int, str], confidence: float = 0.5) -> Observation:
    """Return what a round showed, each exit's bits along the positions committed."""
    num_positions = max(map(len, bits.values()), default=0)
    by_exit: dict[int, Sequence[Read | None]] = {
        exit_layer: reads(each, confidence) for exit_layer, each in bits.items()
    }
    return Observation(num_positions, by_exit)


def take(policy: SessionPolicy, observation: Observation) -> None:
    """Carry out what the policy wishes and tell it what came of it."""
    decision = policy.wish(DEFAULT)
    num_drafted = 0 if decision.is_off else decision.max_draft_len
    num_accepted = min(num_drafted, max(0, observation.num_positions - 1))
    policy.note(decision, num_drafted, num_accepted, observation)
