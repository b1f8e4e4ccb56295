"""Verdicts on two sequences of tokens: equal, a near tie, or a mismatch. Pure.

Sums in floating point depend on their order, so two right programs may differ where the two best
tokens score practically the same. A first difference with a smaller top-two gap than the bound is
such a near tie; what follows it is not compared, as the contexts differ from there on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

NEAR_TIE_GAP = 1e-4


class Outcome(Enum):
    """What a comparison found."""

    EQUAL = "equal"
    NEAR_TIE = "near_tie"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Difference:
    """The verdict on one prompt; `index` is the first place that differs, counted from 0."""

    outcome: Outcome
    index: int = -1
    expected: int | None = None
    actual: int | None = None
    gap: float = 0.0


EQUAL = Difference(Outcome.EQUAL)


def compare(
    actual: Sequence[int],
    expected: Sequence[int],
    gaps: Sequence[float],
    near_tie_gap: float = NEAR_TIE_GAP,
) -> Difference:
    """Compare a completion with the reference's.

    Args:
        actual: ids that the stack emitted.
        expected: ids of the reference.
        gaps: the reference's top-two gap at each of its ids.
        near_tie_gap: a difference with a smaller gap is a near tie.
    """
    index = first_difference(actual, expected)
    if index is None:
        return EQUAL
    # A sequence that ends where the other goes on has no tie to blame: the tokens agree so far.
    gap = gaps[index] if index < min(len(actual), len(expected)) else float("inf")
    return Difference(
        Outcome.NEAR_TIE if gap < near_tie_gap else Outcome.MISMATCH,
        index,
        expected[index] if index < len(expected) else None,
        actual[index] if index < len(actual) else None,
        gap,
    )


def first_difference(actual: Sequence[int], expected: Sequence[int]) -> int | None:
    """Return the first index at which the sequences differ, the end of one of them included."""
    for index, (left, right) in enumerate(zip(actual, expected, strict=False)):
        if left != right:
            return index
    if len(actual) != len(expected):
        return min(len(actual), len(expected))
    return None


def count(differences: Iterable[Difference], outcome: Outcome) -> int:
    """Count the verdicts of one kind."""
    return sum(difference.outcome is outcome for difference in differences)
