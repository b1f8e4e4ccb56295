"""Combs of method swift: right in the chain or in a leaf, at any depth, whatever is skipped.

depth   1    2    3
text    t_0  t_1  t_2      what plain decoding has
ranks   0    0    2        where among its siblings a forced comb has it: the chain, then a leaf
"""

import random
from dataclasses import replace

import pytest

from services.verify.session import Session
from shared.control.skip_search.stream_record import StreamRecord
from shared.speculation.vocabulary import (
    PLAIN_DECISION,
    SWIFT,
    Decision,
    SamplingParams,
    TokenSource,
    TreeBudget,
)
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    make_request,
    split_with,
)
from tests.golden.random_sets import give_set
from tests.golden.reference import GREEDY, ModelShelf, PlainPass, make_prompt, sampled
from tests.golden.test_rounds import KvObserver, WorkObserver
from tests.golden.test_set_search import searching, swift_request
from tests.golden.test_trees import DEPTH, MISS, WIDTH, RankedDrafter, Ranks, Ways
from tests.model_builder import NUM_LAYERS

# Two leaves beside each place of the chain.
BUDGET = TreeBudget(DEPTH * WIDTH, WIDTH, branch_threshold=1.0)
CHAIN, LEAVES = 0, range(1, WIDTH)


def all_ways() -> list[Ranks]:
    """Return every way down a comb: along the chain to its end, or off it by a leaf or a miss."""
    off = [(CHAIN,) * place + (rank,) for place in range(DEPTH) for rank in (*LEAVES, MISS)]
    return [*off, (CHAIN,) * DEPTH]


class CombWays(Ways):
    """Rounds with a whole comb each, every one with a skip set of its own; then plain ones."""

    def decide(self, session: Session) -> Decision:
        """Return the decision of the next round."""
        give_set(session, random.Random(self.index))
        if self.index == len(self.ways):
            return PLAIN_DECISION
        return Decision(SWIFT, 0, DEPTH, tree=BUDGET)


def tokens_of(way: Ranks) -> tuple[int, int]:
    """Return how many drafts a way keeps, and how many of them the chain alone would have kept."""
    num_right = len(way) - (way[-1] == MISS)
    return num_right, sum(rank == CHAIN for rank in way)


@pytest.mark.parametrize(
    ("kind", "page_size"), [("llama", 1), ("qwen3", 4), ("mistral-window", 16)]
)
def test_wherever_a_comb_is_right_kv_of_every_layer_equals_that_of_a_plain_pass(
    kind: str, page_size: int, shelf: ModelShelf
) -> None:
    ways = all_ways()
    script = CombWays([*ways, *reversed(ways)])
    expected = [tokens_of(way) for way in script.ways]
    prompt = make_prompt(8, 6)
    num_new = 1 + sum(right + 1 for right, _ in expected) + DEPTH + 1
    text = [*prompt, *shelf.plain(kind, prompt, num_new).token_ids]
    observer = KvObserver(PlainPass(shelf.stack(kind), text))
    with EngineHarness(
        shelf.stack(kind),
        lambda cell, inbox: RankedDrafter(cell, inbox, text, script),
        HarnessOptions(page_size=page_size, max_draft_len=BUDGET.max_nodes),
        policy=script.decide,
        observer=observer,
    ) as cell:
        observer.cell = cell
        [recorded] = cell.run(make_request(prompt, num_new))
    drafted = [each for each in recorded.rounds if each.draft_len]
    assert {each.draft_len for each in drafted} == {BUDGET.max_nodes}
    for each, way, (right, of_chain) in zip(drafted, script.ways, expected, strict=True):
        last = TokenSource.RECOVERED if way[-1] == MISS else TokenSource.BONUS
        assert each.sources == (TokenSource.ACCEPTED,) * right + (last,)
        # What a leaf hits is no acceptance of the set's.
        assert each.tree is not None
        assert (each.tree.depth, right - each.tree.num_gained) == (DEPTH, of_chain)
    assert recorded.token_ids == text[len(prompt) :]


@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("sampling", [GREEDY, sampled(4)], ids=["greedy", "sampled"])
def test_leaves_are_hit_and_change_no_text(
    sampling: SamplingParams, is_split: bool, shelf: ModelShelf
) -> None:
    prompt, num_new = make_prompt(4, 7), 60
    make_drafter = split_with(shelf.draft_stack("llama")) if is_split else FusedDrafter
    draw = random.Random(9)

    def decide(session: Session) -> Decision:
        give_set(session, draw)
        return Decision(SWIFT, 0, 4, tree=TreeBudget(24, 10, 0.95))

    options = HarnessOptions(max_draft_len=24)
    with EngineHarness(shelf.stack("llama"), make_drafter, options, policy=decide) as cell:
        [recorded] = cell.run(make_request(prompt, num_new, sampling=sampling))
    assert recorded.token_ids == shelf.plain("llama", prompt, num_new, sampling).token_ids
    gained = [each.tree.num_gained for each in recorded.rounds if each.tree]
    assert sum(gained) > 0, "no leaf was hit"
    assert max(gained) == 1, "a round brought more than one leaf"


def test_a_streams_acceptance_is_that_of_its_chains(shelf: ModelShelf) -> None:
    cell, searcher = searching(shelf, share=0.0)
    request = replace(swift_request(1), wished=Decision(SWIFT, 0, 2, tree=TreeBudget(7, 7, 0.95)))
    with cell:
        [recorded] = cell.run(request)
    [stream] = searcher.book
    drafted = [each for each in recorded.rounds if each.draft_len]
    assert len(drafted) == stream.record.num_rounds
    expected = StreamRecord(stream.record.skip_set)
    for each in drafted:
        num_accepted = each.sources.count(TokenSource.ACCEPTED)
        # Where a round has no room for leaves it is a chain.
        num_gained, chain_len = 0, each.draft_len
        if each.tree is not None:
            num_gained, chain_len = each.tree.num_gained, each.tree.depth
        expected.note_acceptance(chain_len, num_accepted - num_gained)
    assert stream.record.acceptance == expected.acceptance
    assert any(each.tree and each.tree.num_gained for each in drafted), "no leaf was hit"


def test_leaves_cost_rows_of_verification_alone(shelf: ModelShelf) -> None:
    observer = WorkObserver()
    draft_stack = shelf.draft_stack("llama")
    wished = Decision(SWIFT, 0, 3, tree=TreeBudget(7, 3, 1.0))
    with EngineHarness(shelf.stack("llama"), split_with(draft_stack), observer=observer) as cell:
        observer.cell = cell
        cell.run(make_request(make_prompt(1, 9), 30, wished=wished))
    whole = [each for each in observer.rounds if each[0].draft_len == 7]
    assert len(whole) >= 3
    for _, verify, draft in whole:
        assert verify == (8 * NUM_LAYERS, 8)
        # Nothing is skipped here, and nothing is run behind the chain's last draft.
        assert draft == (3 * NUM_LAYERS, 3)
