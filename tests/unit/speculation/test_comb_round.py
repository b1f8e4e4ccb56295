"""A comb while it is drafted: the chain as ever, and which of its choices get leaves."""

import pytest

from shared.ids import SessionId, TokenId
from shared.model.page_table import PageTable
from shared.speculation.methods.base import Choice
from shared.speculation.methods.comb_round import CombRound, leaves_of
from shared.speculation.methods.skipping_round import SkippingRound
from shared.speculation.methods.swift import Swift
from shared.speculation.skip_set import SkipSet
from shared.speculation.tree import draft_fault, is_first_child
from shared.speculation.vocabulary import (
    SWIFT,
    Decision,
    Draft,
    Extent,
    RoundTask,
    SamplingParams,
    TreeBudget,
)

TABLE = PageTable([Extent(0, 8)], 4)
SKIPPED = SkipSet.from_wire((3,))


def choice(place: int, confidence: float, num_candidates: int = 12) -> Choice:
    """Return a choice of 100 * place, its next best counted up from there."""
    others = tuple(TokenId(100 * place + rank) for rank in range(1, num_candidates + 1))
    return Choice(TokenId(100 * place), confidence, others)


def draft(confidences: list[float], tree: TreeBudget | None, stop_threshold: float = 0.0) -> Draft:
    """Draft as long as the confidences are."""
    decision = Decision(SWIFT, 0, len(confidences), stop_threshold, tree=tree)
    task = RoundTask(
        SessionId("s"), 0, TABLE.extents, 0, (TokenId(5),), 5, 2, decision, SamplingParams(),
        frozenset(), skip_set=SKIPPED,
    )  # fmt: skip
    making, place = Swift().open_round(task, TABLE, []), 0
    assert type(making) is (CombRound if tree else SkippingRound)
    while rows := making.next_rows():
        (row,) = rows
        assert (row.skip_set, row.position, row.path) == (SKIPPED, 4 + place, None)
        assert row.head is not None
        making.note([choice(place, confidences[place], row.head.num_candidates)])
        place += 1
    made = making.to_draft(())
    assert draft_fault(made.draft_tokens, made.parents, decision) == ""
    return made


def test_the_less_sure_a_choice_the_more_leaves_it_has_as_published() -> None:
    made = draft([0.96, 0.95, 0.81, 0.8, 0.51, 0.5], TreeBudget(100, 10, 1.0))
    widths = [1 + made.parents[6:].count(place - 1) for place in range(6)]
    assert widths == [1, 3, 3, 5, 5, 10]
    assert made.draft_tokens[:6] == (0, 100, 200, 300, 400, 500)
    assert made.draft_tokens[6:10] == (101, 102, 201, 202)
    assert set(made.confidences[6:]) == {0.0}
    first = [is_first_child(node, made.parents) for node in range(len(made.parents))]
    assert first == [True] * 6 + [False] * (len(made.parents) - 6)


def test_a_request_may_have_fewer_leaves_and_only_where_it_says() -> None:
    made = draft([0.9, 0.7, 0.3], TreeBudget(100, 2, 0.8))
    assert made.parents == (-1, 0, 1, 0, 1)
    assert made.draft_tokens == (0, 100, 200, 101, 201)


@pytest.mark.parametrize("confidences", [[0.9, 0.2, 0.5], [0.3]])
def test_without_leaves_a_comb_is_the_chain(confidences: list[float]) -> None:
    chain = draft(confidences, None, stop_threshold=0.4)
    assert draft(confidences, TreeBudget(9, 3, 0.0), stop_threshold=0.4) == chain
    assert draft(confidences, TreeBudget(len(chain.draft_tokens)), stop_threshold=0.4) == chain


def test_a_chain_is_no_longer_than_the_comb_may_have_tokens() -> None:
    assert draft([0.9] * 6, TreeBudget(4, 3, 1.0)).draft_tokens == (0, 100, 200, 300)


def test_where_room_is_short_it_goes_to_the_leaves_that_are_hit_most() -> None:
    choices = [choice(0, 0.9), choice(1, 0.4), choice(2, 0.4)]
    # Worth by rank: .1, .05, ..; .54, .27, .18, ..; .216, .108, ...
    kept = {
        num: [leaf.token_id for leaf in leaves_of(choices, TreeBudget(3 + num, 10, 1.0))]
        for num in range(5)
    }
    assert kept == {
        0: [],
        1: [101],
        2: [101, 102],
        3: [101, 102, 201],
        4: [101, 102, 103, 201],
    }
