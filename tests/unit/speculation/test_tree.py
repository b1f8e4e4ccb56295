"""Token trees: every small one, walked; what a peer may send; where what is kept belongs."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from shared.ids import TokenId
from shared.speculation.acceptance import judge
from shared.speculation.tree import (
    depths_of,
    draft_fault,
    is_chain,
    moves_of,
    row_paths,
    rows_of,
)
from shared.speculation.vocabulary import Decision, TokenSource, TreeBudget, Verdict

VOCAB = tuple(map(TokenId, range(5)))
MAX_DEPTH = 3
Tree = tuple[tuple[TokenId, ...], tuple[int, ...]]
Target = Callable[[Sequence[TokenId]], TokenId]


def ids(*values: int) -> tuple[TokenId, ...]:
    return tuple(TokenId(value) for value in values)


def all_trees(max_nodes: int, tree: Tree = ((), ())) -> Iterator[Tree]:
    """Iterate over the trees of at most so many nodes, in every order of theirs."""
    tokens, parents = tree
    if tokens:
        yield tree
    if len(tokens) == max_nodes:
        return
    depths = depths_of(parents)
    children = set(zip(parents, tokens, strict=True))
    for parent in range(-1, len(tokens)):
        if parent >= 0 and depths[parent] == MAX_DEPTH:
            continue
        for token in VOCAB:
            if (parent, token) not in children:
                yield from all_trees(max_nodes, ((*tokens, token), (*parents, parent)))


def make_target(seed: int) -> Target:
    """Return a target whose choice depends on all tokens before it."""
    return lambda before: random.Random(f"{seed} {list(before)}").choice(VOCAB)


def plain_text(target: Target, length: int) -> list[TokenId]:
    text: list[TokenId] = []
    while len(text) < length:
        text.append(target(text))
    return text


def choices_of(tree: Tree, target: Target) -> list[TokenId]:
    """Return the target's choice behind every row, each with its path alone before it."""
    tokens, parents = tree
    return [target([tokens[row - 1] for row in path[1:]]) for path in row_paths(parents)]


def branches_of(tree: Tree) -> set[tuple[TokenId, ...]]:
    tokens, parents = tree
    return {tuple(tokens[row - 1] for row in path[1:]) for path in row_paths(parents)}


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_tree_what_is_emitted_is_the_plain_text(seed: int) -> None:
    target = make_target(seed)
    plain = plain_text(target, MAX_DEPTH + 1)
    seen = set()
    for tree in all_trees(max_nodes=4):
        tokens, parents = tree
        verdict = judge(tokens, choices_of(tree, target), parents)
        accepted = [tokens[node] for node in verdict.path]
        emitted = [*accepted, verdict.next_token]
        assert emitted == plain[: len(emitted)]
        assert verdict.num_accepted == len(verdict.path)
        branches = branches_of(tree)
        assert tuple(emitted) not in branches, "a longer branch was right too"
        has_children = any(
            len(each) == len(emitted) for each in branches if each[:-1] == (*accepted,)
        )
        assert verdict.source is (TokenSource.RECOVERED if has_children else TokenSource.BONUS)
        assert depths_of(parents) == [len(path) - 1 for path in row_paths(parents)[1:]]
        seen.add((verdict.num_accepted, verdict.source))
    assert len(seen) == 2 * (MAX_DEPTH + 1) - 2, "some outcome never happened"


@pytest.mark.parametrize("length", range(1, 6))
def test_a_tree_of_one_path_is_judged_as_the_chain_it_is(length: int) -> None:
    parents = tuple(range(-1, length - 1))
    assert is_chain(parents)
    draw = random.Random(length)
    for _ in range(50):
        tokens = tuple(draw.choices(VOCAB[:2], k=length))
        target = draw.choices(VOCAB[:2], k=length + 1)
        chain, tree = judge(tokens, target), judge(tokens, target, parents)
        assert chain == replace(tree, path=())
        assert tree.path == tuple(range(chain.num_accepted))


def test_a_sibling_that_is_hit_is_followed_by_its_own_children() -> None:
    tokens, parents = ids(1, 2, 3, 4, 3), (-1, -1, 0, 1, 1)
    verdict = judge(tokens, ids(2, 9, 4, 9, 7, 9), parents)
    assert verdict == Verdict(2, TokenId(7), TokenSource.BONUS, (1, 3))
    assert rows_of(verdict.path, 3) == [0, 2, 4]
    assert rows_of(verdict.path, 2) == [0, 2], "the text ended within the draft"


@pytest.mark.parametrize("seed", range(20))
def test_moving_a_path_puts_each_node_to_its_depth(seed: int) -> None:
    draw = random.Random(seed)
    slots = [f"node {node}" for node in range(9)]
    path = sorted(draw.sample(range(9), draw.randint(1, 6)))
    expected = [slots[node] for node in path]
    moves = moves_of(path)
    moved = [slots[source] for source, _ in moves]
    for (_, target), value in zip(moves, moved, strict=True):
        slots[target] = value
    assert slots[: len(path)] == expected
    assert all(source > target for source, target in moves), "what lies right is not moved"


TREE = Decision("layerskip", 2, 3, tree=TreeBudget(6, 2))


@pytest.mark.parametrize(
    ("tokens", "parents", "fault"),
    [
        (ids(), (), "0 draft tokens where 1 to 6"),
        (ids(*range(7)), (), "7 draft tokens where 1 to 6"),
        (ids(1, 2, 3, 4), (), "a chain of 4, longer than 3"),
        (ids(1, 2), (-1,), "1 parents of 2"),
        (ids(1, 2), (-1, 1), "parent of node 1 is 1"),
        (ids(1, 2), (0, -1), "parent of node 0 is 0"),
        (ids(1, 2), (-1, -2), "parent of node 1 is -2"),
        (ids(1, 2, 3, 4), (-1, 0, 1, 2), "deeper than 3"),
        (ids(1, 1), (-1, -1), "the same token"),
        (ids(5, 2, 1, 2), (-1, 0, -1, 0), "the same token"),
        (ids(1, 2, 3), (-1, -1, -1), "more than 2 children"),
    ],
)
def test_what_is_no_tree_that_was_asked_is_refused(
    tokens: tuple[TokenId, ...], parents: tuple[int, ...], fault: str
) -> None:
    assert fault in draft_fault(tokens, parents, TREE)


@pytest.mark.parametrize(
    ("tokens", "parents"),
    [
        (ids(1), ()),
        (ids(1, 2, 3), ()),
        (ids(1, 1, 1), (-1, 0, 1)),
        (ids(1, 2, 1, 2, 1, 2), (-1, -1, 0, 0, 1, 1)),
    ],
)
def test_trees_and_chains_within_the_budget_are_sound(
    tokens: tuple[TokenId, ...], parents: tuple[int, ...]
) -> None:
    assert draft_fault(tokens, parents, TREE) == ""


def test_whoever_asked_for_a_chain_takes_no_tree() -> None:
    chain = Decision("layerskip", 2, 3)
    assert draft_fault(ids(1, 2, 3), (), chain) == ""
    assert "a tree where a chain" in draft_fault(ids(1, 2), (-1, -1), chain)
