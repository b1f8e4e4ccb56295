"""A tree while it is drafted: who gets siblings, who goes on, what the budget leaves for whom."""

from collections.abc import Callable

import pytest

from shared.ids import SessionId, TokenId
from shared.model.page_table import PageTable
from shared.speculation.methods.base import Choice
from shared.speculation.methods.tree_round import TreeRound
from shared.speculation.tree import draft_fault
from shared.speculation.vocabulary import (
    LAYERSKIP,
    Decision,
    Draft,
    Extent,
    RoundTask,
    SamplingParams,
    TreeBudget,
)

TABLE = PageTable([Extent(0, 8)], 4)
COMMITTED_LEN = 5
STOP_ID = 99
PENALISED = SamplingParams(presence_penalty=0.5)
HISTORY = [TokenId(token) for token in (1, 2, 3, 4, 5)]
# The confidence of a choice, by its row.
Confidences = Callable[[int], float]


def draft(
    depth: int,
    tree: TreeBudget,
    confidence: Confidences = lambda row: 0.5,
    *,
    stop_threshold: float = 0.0,
    stop_row: int = -1,
    by_chance: bool = False,
) -> tuple[Draft, list[list[int]]]:
    """Draft a tree; the token behind row r at rank i is 10 * (r + 1) + i.

    Returns:
        The draft, and the rows of each step.
    """
    task = RoundTask(
        SessionId("s"), 0, TABLE.extents, 0, (TokenId(5),), COMMITTED_LEN, 2,
        Decision(LAYERSKIP, 2, depth, stop_threshold, tree=tree, by_chance=by_chance),
        PENALISED, frozenset({STOP_ID}),
    )  # fmt: skip
    making, steps = TreeRound(task, TABLE, HISTORY), []
    while rows := making.next_rows():
        steps.append([row.row_index for row in rows])
        choices = []
        for row in rows:
            assert row.position == COMMITTED_LEN - 1 + len(making.paths[row.row_index]) - 1
            if row.head is None:
                continue
            assert row.head.position == row.position + 1 == len(row.head.history)
            assert row.head.history[-1] == row.token_id
            first = 10 * (row.row_index + 1)
            token = STOP_ID if row.row_index == stop_row else first
            others = [first + rank for rank in range(1, row.head.num_candidates + 1)]
            choices.append(Choice(*_choice(token, confidence(row.row_index), others)))
        making.note(choices)
    made = making.to_draft(())
    assert draft_fault(made.draft_tokens, made.parents, task.decision) == ""
    assert sorted(row for step in steps for row in step) == list(range(len(made.draft_tokens) + 1))
    return made, steps


def _choice(
    token: int, confidence: float, others: list[int]
) -> tuple[TokenId, float, tuple[TokenId, ...]]:
    return TokenId(token), confidence, tuple(map(TokenId, others))


def test_a_sure_draft_is_a_chain() -> None:
    made, steps = draft(3, TreeBudget(8, 3, 0.8), lambda row: 0.9)
    assert (made.draft_tokens, made.parents) == ((10, 20, 30), ())
    assert steps == [[0], [1], [2], [3]]


def test_an_unsure_choice_gets_siblings_and_the_chain_keeps_its_room() -> None:
    made, steps = draft(3, TreeBudget(5, 4, 0.8), lambda row: 0.5 if row == 0 else 0.9)
    assert made.draft_tokens == (10, 11, 12, 20, 50)
    assert made.parents == (-1, -1, -1, 0, 3)
    assert made.confidences == (0.5, 0.0, 0.0, 0.9, 0.9)
    assert steps == [[0], [1, 2, 3], [4], [5]]


def test_branches_go_on_where_the_budget_allows() -> None:
    made, steps = draft(2, TreeBudget(6, 2, 0.8))
    assert made.parents == (-1, -1, 0, 0, 1, 1)
    assert made.draft_tokens == (10, 11, 20, 21, 30, 31)
    assert steps == [[0], [1, 2], [3, 4, 5, 6]]


@pytest.mark.parametrize("max_nodes", range(1, 15))
def test_no_budget_is_exceeded_and_every_node_is_run_once(max_nodes: int) -> None:
    made, _ = draft(3, TreeBudget(max_nodes, 3, 1.0))
    assert len(made.draft_tokens) == max_nodes


def test_drafting_stops_behind_a_choice_below_the_threshold_whose_siblings_stay() -> None:
    made, steps = draft(4, TreeBudget(8, 3, 0.8), stop_threshold=0.6)
    assert (made.draft_tokens, made.parents) == ((10, 11, 12), (-1, -1, -1))
    assert steps == [[0], [1, 2, 3]]


def test_nothing_is_drafted_behind_an_end() -> None:
    made, steps = draft(4, TreeBudget(6, 2, 0.8), stop_row=1)
    assert made.draft_tokens[2] == STOP_ID
    assert len(steps) == 3


def test_by_chance_a_branch_ends_where_its_whole_path_is_unlikely() -> None:
    # Behind a choice of .6 a sibling has .4; behind two choices .36.
    def confidence(row: int) -> float:
        return 0.6

    tree = TreeBudget(12, 2, 0.8)
    long, _ = draft(4, tree, confidence, stop_threshold=0.1, by_chance=True)
    short, steps = draft(4, tree, confidence, stop_threshold=0.37, by_chance=True)
    assert len(short.draft_tokens) < len(long.draft_tokens)
    # Both nodes at depth 1 go on, of those at depth 2 none does.
    assert [len(step) for step in steps] == [1, 2, 4]
