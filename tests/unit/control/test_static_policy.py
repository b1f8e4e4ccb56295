"""The static policy and the clamp behind every policy."""

from dataclasses import replace

import pytest

from shared.control.policies.static import Limits, clamp, decide
from shared.speculation.vocabulary import LAYERSKIP, OFF, PLAIN_DECISION, Decision

ROOMY = Limits(tokens_left=100, context_left=100, max_rows=17)
WISHED = Decision(LAYERSKIP, 3, 6, 0.4, "pinned")


@pytest.mark.parametrize(
    ("limits", "draft_len"),
    [
        (ROOMY, 16),
        (replace(ROOMY, tokens_left=5), 4),
        (replace(ROOMY, tokens_left=1), 0),
        (replace(ROOMY, tokens_left=0), 0),
        (replace(ROOMY, context_left=3), 2),
        (replace(ROOMY, context_left=0), 0),
        (replace(ROOMY, max_rows=1), 0),
        (Limits(4, 3, 2), 1),
    ],
)
def test_the_longest_draft_leaves_room_for_the_verdict(limits: Limits, draft_len: int) -> None:
    assert limits.max_draft_len == draft_len


def test_a_wish_with_room_is_granted_as_it_is() -> None:
    assert decide(WISHED, ROOMY, has_draft_worker=True) is WISHED


def test_a_wish_with_less_room_is_shortened_and_keeps_the_rest() -> None:
    limits = replace(ROOMY, tokens_left=3)
    found = decide(WISHED, limits, has_draft_worker=True)
    assert found == replace(WISHED, max_draft_len=2, reason="limit")


def test_no_room_at_all_is_off() -> None:
    found = clamp(WISHED, replace(ROOMY, tokens_left=1))
    assert (found.method, found.is_off, found.reason) == (OFF, True, "limit")


def test_without_a_draft_worker_the_round_is_plain_and_says_why() -> None:
    found = decide(WISHED, ROOMY, has_draft_worker=False)
    assert (found.is_off, found.reason) == (True, "no_draft_worker")


@pytest.mark.parametrize(
    "wished", [PLAIN_DECISION, Decision(LAYERSKIP, 2, 0), Decision(OFF, 2, 4)], ids=str
)
def test_a_wish_for_no_drafts_is_granted(wished: Decision) -> None:
    assert decide(wished, ROOMY, has_draft_worker=True) == PLAIN_DECISION
