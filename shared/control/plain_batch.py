"""Plain steps of which nobody has learned yet: they are learned of together. Pure.

    step   step   step   step | learned: sums of tokens and positions, the times of the last

A plain step alike those before it shows nothing new but what it took. On a small model learning
that anew after every token was 3 % of the step, for sessions that never draft as well; the times of
one step in some are as fair a sample. Where steps take long each is learned of by itself.
"""

from collections.abc import Sequence
from dataclasses import replace

from shared.control.evidence.observation import Observation
from shared.control.steps import RoundOutcome, StepOutcome, ns_of

# Steps learned of at once: as many as take so long beside a tenth of a millisecond of learning.
# What another process takes of the machine shows so much later.
MAX_NS = 20_000_000
MAX_STEPS = 16


class PlainBatch:
    """Steps in a row of the same sessions, all plain, none read."""

    def __init__(self) -> None:
        """Begin with none."""
        self._steps: list[StepOutcome] = []
        self._ns = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to learn of them."""
        return self._ns >= MAX_NS or len(self._steps) >= MAX_STEPS

    def add(self, outcome: StepOutcome) -> bool:
        """Take a step if it is like those here; return whether it was taken."""
        if not _is_bare(outcome):
            return False
        if self._steps and not _has_same_sessions(self._steps[-1], outcome):
            return False
        self._steps.append(outcome)
        self._ns += ns_of(outcome)
        return True

    def take(self) -> StepOutcome | None:
        """Return all steps as one, and forget them; None if there is none."""
        steps, self._steps, self._ns = self._steps, [], 0
        if len(steps) < 2:
            return steps[0] if steps else None
        rounds = [_joined(rounds) for rounds in zip(*(each.rounds for each in steps), strict=True)]
        return replace(steps[-1], rounds=rounds, num_steps=len(steps))


def _is_bare(outcome: StepOutcome) -> bool:
    """Say whether a step had sessions, none of which drafted or was read, and no prompts."""
    if not outcome.rounds or outcome.num_prefill_rows or not outcome.teaches:
        return False
    if outcome.draft_ns or outcome.read_ns:
        return False
    return not any(
        each.num_drafted or (each.observation is not None and each.observation.reads)
        for each in outcome.rounds
    )


def _has_same_sessions(one: StepOutcome, other: StepOutcome) -> bool:
    if len(one.rounds) != len(other.rounds):
        return False
    return all(a.key == b.key for a, b in zip(one.rounds, other.rounds, strict=True))


def _joined(rounds: Sequence[RoundOutcome]) -> RoundOutcome:
    """Return a session's rounds as one of as many tokens."""
    num_emitted = sum(each.num_emitted for each in rounds)
    seen = [each.observation for each in rounds if each.observation is not None]
    observation = Observation(sum(each.num_positions for each in seen)) if seen else None
    return replace(rounds[-1], num_emitted=num_emitted, observation=observation)
