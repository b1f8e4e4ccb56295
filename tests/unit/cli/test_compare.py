"""Mismatch or near tie: the verdicts of `check`."""

import pytest

from shortstack.checking.compare import (
    NEAR_TIE_GAP,
    Difference,
    Outcome,
    compare,
    count,
    first_difference,
)

WIDE, NARROW = 1.0, 1e-6


@pytest.mark.parametrize(
    ("actual", "expected", "gaps", "outcome", "index"),
    [
        ([], [], [], Outcome.EQUAL, -1),
        ([1, 2, 3], [1, 2, 3], [WIDE] * 3, Outcome.EQUAL, -1),
        ([1, 2, 3], [1, 2, 3], [NARROW] * 3, Outcome.EQUAL, -1),
        ([1, 9, 3], [1, 2, 3], [WIDE] * 3, Outcome.MISMATCH, 1),
        ([1, 9, 3], [1, 2, 3], [WIDE, NARROW, WIDE], Outcome.NEAR_TIE, 1),
        ([9, 2, 3], [1, 2, 3], [NEAR_TIE_GAP, WIDE, WIDE], Outcome.MISMATCH, 0),
        # Behind a near tie the contexts differ: nothing there counts.
        ([1, 9, 9], [1, 2, 3], [WIDE, NARROW, WIDE], Outcome.NEAR_TIE, 1),
        # Ended early or late: the tokens agree, so no tie can be to blame.
        ([1, 2], [1, 2, 3], [WIDE, WIDE, NARROW], Outcome.MISMATCH, 2),
        ([1, 2, 3], [1, 2], [NARROW, NARROW], Outcome.MISMATCH, 2),
    ],
)
def test_the_first_difference_decides(
    actual: list[int], expected: list[int], gaps: list[float], outcome: Outcome, index: int
) -> None:
    difference = compare(actual, expected, gaps)
    assert (difference.outcome, difference.index) == (outcome, index)


def test_a_difference_tells_both_tokens_and_the_gap() -> None:
    assert compare([1, 9], [1, 2], [WIDE, 0.5]) == Difference(Outcome.MISMATCH, 1, 2, 9, 0.5)


def test_outcomes_are_counted() -> None:
    differences = [Difference(Outcome.MISMATCH), Difference(Outcome.EQUAL)]
    assert count(differences, Outcome.MISMATCH) == 1
    assert count(differences, Outcome.NEAR_TIE) == 0


def test_equal_sequences_have_no_first_difference() -> None:
    assert first_difference((1, 2), [1, 2]) is None
