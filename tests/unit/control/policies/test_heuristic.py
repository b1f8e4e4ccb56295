"""Draft lengths by the last round alone."""

from dataclasses import replace

import pytest

from shared.control.policies.heuristic import (
    HUGGING_FACE,
    PLUS_MINUS_ONE,
    Heuristic,
    LengthRule,
)
from shared.speculation.vocabulary import PLAIN_DECISION
from tests.unit.control.policies.samples import CONTEXT, DEFAULT, NOTHING


@pytest.mark.parametrize(
    ("rule", "rounds", "lens"),
    [
        (PLUS_MINUS_ONE, "", [4]),
        (PLUS_MINUS_ONE, "+++", [4, 5, 6, 7]),
        (PLUS_MINUS_ONE, "+-+-", [4, 5, 4, 5, 4]),
        (PLUS_MINUS_ONE, "------", [4, 3, 2, 1, 1, 1, 1]),
        (HUGGING_FACE, "", [5]),
        (HUGGING_FACE, "++-", [5, 7, 9, 8]),
        (HUGGING_FACE, "------+", [5, 4, 3, 2, 1, 1, 1, 3]),
    ],
)
def test_lengths_follow_the_last_round(rule: LengthRule, rounds: str, lens: list[int]) -> None:
    policy = Heuristic(CONTEXT, rule)
    found = [policy.wish(DEFAULT).max_draft_len]
    for each in rounds:
        wished = policy.wish(DEFAULT)
        kept = wished.max_draft_len - (each == "-")
        policy.note(wished, wished.max_draft_len, kept, NOTHING)
        found.append(policy.wish(DEFAULT).max_draft_len)
    assert found == lens


def test_exit_and_threshold_are_those_of_the_default() -> None:
    assert Heuristic(CONTEXT).wish(DEFAULT) == replace(DEFAULT, reason="policy")


def test_lengths_stay_within_what_anyone_may_draft() -> None:
    policy = Heuristic(replace(CONTEXT, max_draft_len=5), HUGGING_FACE)
    assert policy.wish(DEFAULT).max_draft_len == 5
    policy.note(policy.wish(DEFAULT), 5, 5, NOTHING)
    assert policy.wish(DEFAULT).max_draft_len == 5


def test_a_default_without_drafts_starts_at_one() -> None:
    default = replace(DEFAULT, max_draft_len=0)
    policy = Heuristic(replace(CONTEXT, default=default))
    assert policy.wish(default).max_draft_len == 1


def test_all_kept_of_a_shortened_draft_says_nothing_but_a_mismatch_does() -> None:
    policy = Heuristic(CONTEXT)
    shortened = replace(DEFAULT, max_draft_len=2, reason="shorter")
    policy.note(shortened, 2, 2, NOTHING)
    assert policy.wish(DEFAULT).max_draft_len == 4
    policy.note(shortened, 2, 1, NOTHING)
    assert policy.wish(DEFAULT).max_draft_len == 3


def test_all_kept_of_a_draft_that_its_threshold_stopped_counts() -> None:
    policy = Heuristic(CONTEXT)
    policy.note(policy.wish(DEFAULT), 2, 2, NOTHING)
    assert policy.wish(DEFAULT).max_draft_len == 5


def test_plain_rounds_move_nothing() -> None:
    policy = Heuristic(CONTEXT)
    policy.note(PLAIN_DECISION, 0, 0, NOTHING)
    policy.note(DEFAULT, 0, 0, NOTHING)
    assert policy.wish(DEFAULT).max_draft_len == 4
