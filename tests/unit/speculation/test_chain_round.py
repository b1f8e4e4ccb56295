"""A chain while it is drafted: where it stops, by confidences and by the chance of the whole."""

from collections.abc import Sequence

import pytest

from shared.ids import SessionId, TokenId
from shared.model.page_table import PageTable
from shared.speculation.methods.base import Choice
from shared.speculation.methods.chain_round import ChainRound
from shared.speculation.vocabulary import (
    LAYERSKIP,
    Decision,
    Extent,
    RoundTask,
    SamplingParams,
)

TABLE = PageTable([Extent(0, 8)], 4)


def num_drafts(told: Sequence[float], stop_threshold: float, *, by_chance: bool) -> int:
    """Return how many drafts a round makes whose choices tell this."""
    decision = Decision(LAYERSKIP, 2, len(told), stop_threshold, by_chance=by_chance)
    task = RoundTask(
        SessionId("s"), 0, TABLE.extents, 0, (TokenId(5),), 5, 2, decision, SamplingParams()
    )
    making, values = ChainRound(task, TABLE, []), iter(told)
    while rows := making.next_rows():
        (row,) = rows
        assert row.head is None or row.head.wants_chance == by_chance
        making.note([] if row.head is None else [Choice(TokenId(7), next(values))])
    draft = making.to_draft(())
    assert draft.confidences == tuple(told[: len(draft.draft_tokens)])
    return len(draft.draft_tokens)


@pytest.mark.parametrize(
    ("told", "stop_threshold", "by_confidence", "by_chance"),
    [
        ([0.9, 0.9, 0.9, 0.9], 0.7, 4, 4),
        ([0.9, 0.8, 0.9, 0.9], 0.7, 4, 3),
        ([0.6, 0.9, 0.9, 0.9], 0.7, 1, 1),
        ([0.9, 0.7, 0.9, 0.9], 0.6, 4, 3),
        ([0.1, 0.1, 0.1], 0.0, 3, 3),
    ],
)
def test_the_draft_below_the_threshold_is_the_last(
    told: list[float], stop_threshold: float, by_confidence: int, by_chance: int
) -> None:
    assert num_drafts(told, stop_threshold, by_chance=False) == by_confidence
    assert num_drafts(told, stop_threshold, by_chance=True) == by_chance
