"""Drafts that branch: right on whatever branch, at the ends of texts, pages and contexts.

depth   1    2    3
text    t_0  t_1  t_2      what plain decoding has
ranks   0    2    1        where among its siblings a forced tree has it
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from services.verify.drafter import DrafterEvent, DraftsArrived, Inbox
from services.verify.local_drafter import LocalDrafter
from services.verify.session import Session
from shared.ids import TokenId
from shared.model.draft_runner import StackDraftRunner
from shared.speculation.drafting import draft_rounds
from shared.speculation.methods.base import Choice, DraftRow
from shared.speculation.skip_set import SkipSet
from shared.speculation.vocabulary import (
    KANGAROO,
    LAYERSKIP,
    PLAIN_DECISION,
    SWIFT,
    Decision,
    Draft,
    FinishReason,
    RoundTask,
    SamplingParams,
    TokenSource,
    TreeBudget,
)
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    Recorded,
    make_request,
    split_with,
)
from tests.golden.random_sets import stream_of
from tests.golden.reference import GREEDY, ModelShelf, PlainPass, make_prompt, sampled
from tests.golden.test_rounds import KvObserver, WorkObserver
from tests.model_builder import MAX_CONTEXT_LEN, NUM_LAYERS, VOCAB_SIZE

WIDTH, DEPTH = 3, 3
# Every branch goes on to the end: 3 + 9 + 27 nodes.
NUM_NODES = 39
WHOLE = TreeBudget(NUM_NODES, WIDTH, branch_threshold=1.0)
MISS = WIDTH
Ranks = tuple[int, ...]


def all_ranks(first: int) -> list[Ranks]:
    """Return the ways down a tree that begin with a rank; they end at a miss or at a leaf."""
    ways: list[Ranks] = []
    for ranks in itertools.product(range(WIDTH + 1), repeat=DEPTH - 1):
        way = (first, *ranks)
        end = way.index(MISS) + 1 if MISS in way else DEPTH
        if way[:end] not in ways:
            ways.append(way[:end])
    return ways


class RankedRunner(StackDraftRunner):
    """Runs the layers as ever; the token that the text has is reported at a rank of the test's."""

    def __init__(self, cell: EngineHarness, text: Sequence[int]) -> None:
        super().__init__(cell.stack, cell.pool)
        self._text = text
        self.ranks: Ranks = ()

    def step(self, rows: Sequence[DraftRow]) -> list[Choice]:
        """Report the true token of each position at the rank of its depth, others around it."""
        choices = super().step(rows)
        heads = [row for row in rows if row.head is not None]
        return [self._ranked(row, choice) for row, choice in zip(heads, choices, strict=True)]

    def _ranked(self, row: DraftRow, choice: Choice) -> Choice:
        depth = len(row.path) - 1 if row.path is not None else row.row_index
        rank = self.ranks[depth] if depth < len(self.ranks) else MISS
        true = self._text[row.position + 1]
        tokens = [3 + (true + away) % (VOCAB_SIZE - 3) for away in range(1, WIDTH + 1)]
        if rank != MISS:
            tokens.insert(rank, true)
        token, *others = map(TokenId, tokens[:WIDTH])
        return Choice(token, 0.5, tuple(others))


class RankedDrafter:
    """Drafts with a `RankedRunner`, one way down after the other."""

    def __init__(
        self, cell: EngineHarness, inbox: Inbox, text: Sequence[int], script: "Ways"
    ) -> None:
        self._runner = RankedRunner(cell, text)
        self._inbox = inbox
        self._script = script

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Draft at once."""
        for task in tasks:
            self._runner.ranks = self._script.take()
            self._inbox(DraftsArrived(tuple(draft_rounds([task], self._runner))))

    def close(self) -> None:
        """Nothing runs."""


@dataclass
class Ways:
    """Rounds with a whole tree each, one after the other; then plain ones."""

    ways: list[Ranks]
    method: str = LAYERSKIP
    index: int = 0

    def decide(self, session: Session) -> Decision:
        """Return the decision of the next round; the exits take turns."""
        if self.index == len(self.ways):
            return PLAIN_DECISION
        return Decision(self.method, 1 + self.index % (NUM_LAYERS - 1), DEPTH, tree=WHOLE)

    def take(self) -> Ranks:
        """Return the way of the round in hand, and go on to the next."""
        self.index += 1
        return self.ways[self.index - 1]


@pytest.mark.parametrize("first", range(WIDTH))
@pytest.mark.parametrize(
    ("kind", "page_size", "method"),
    [
        ("llama", 1, LAYERSKIP),
        ("qwen3", 4, LAYERSKIP),
        ("mistral-window", 16, LAYERSKIP),
        ("mistral-window", 4, KANGAROO),
    ],
)
def test_whatever_branch_is_right_kv_of_every_layer_equals_that_of_a_plain_pass(
    kind: str, page_size: int, method: str, first: int, shelf: ModelShelf
) -> None:
    ways = all_ranks(first)
    stack = shelf.adapted(kind) if method == KANGAROO else shelf.stack(kind)
    script = Ways([*ways, (MISS,)], method)
    num_right = [len(way) - (way[-1] == MISS) for way in script.ways]
    prompt = make_prompt(8, 6)
    num_new = 1 + sum(m + 1 for m in num_right) + DEPTH + 1
    text = [*prompt, *shelf.plain(kind, prompt, num_new).token_ids]
    observer = KvObserver(PlainPass(stack, text))
    with EngineHarness(
        stack,
        lambda cell, inbox: RankedDrafter(cell, inbox, text, script),
        HarnessOptions(page_size=page_size, max_draft_len=NUM_NODES),
        policy=script.decide,
        observer=observer,
    ) as cell:
        observer.cell = cell
        [recorded] = cell.run(make_request(prompt, num_new))
    drafted = [each for each in recorded.rounds if each.draft_len]
    assert [len(each.token_ids) - 1 for each in drafted] == num_right
    assert {each.draft_len for each in drafted} == {NUM_NODES}
    for each, m in zip(drafted, num_right, strict=True):
        last = TokenSource.BONUS if m == DEPTH else TokenSource.RECOVERED
        assert each.sources == (TokenSource.ACCEPTED,) * m + (last,)
    assert recorded.token_ids == text[len(prompt) :]
    assert len(observer.lengths) > len(ways)


class OnePathDrafter(LocalDrafter):
    """Drafts chains and sends them as the trees of one path that they are."""

    def __init__(self, cell: EngineHarness, inbox: Inbox) -> None:
        def as_trees(event: DrafterEvent) -> None:
            assert isinstance(event, DraftsArrived)
            inbox(DraftsArrived(tuple(map(_as_tree, event.drafts))))

        super().__init__(cell.stack, cell.pool, as_trees)

    def close(self) -> None:
        """Nothing runs."""


def _as_tree(draft: Draft) -> Draft:
    return replace(draft, parents=tuple(range(-1, len(draft.draft_tokens) - 1)))


@pytest.mark.parametrize(
    ("kind", "method"), [("llama", LAYERSKIP), ("mistral-window", LAYERSKIP), ("llama", SWIFT)]
)
@pytest.mark.parametrize("sampling", [GREEDY, sampled(1)], ids=["greedy", "sampled"])
def test_a_tree_of_one_path_does_what_the_chain_does(
    kind: str, method: str, sampling: SamplingParams, shelf: ModelShelf
) -> None:
    # A tree that nothing makes branch: its rows are the chain's.
    exit_layer = 2 if method == LAYERSKIP else 0
    wished = Decision(method, exit_layer, 5, 0.3, tree=TreeBudget(5, 2, branch_threshold=0.0))

    def skip(session: Session) -> Decision:
        session.stream = stream_of(SkipSet.from_wire((5,)))
        return wished

    requests = [
        make_request(
            make_prompt(index, 5 + 8 * index),
            30,
            session_id=f"ses-{index}",
            sampling=sampling,
            num_logprobs=2,
        )
        for index in range(2)
    ]
    told: list[list[Recorded]] = []
    pools: list[torch.Tensor] = []
    work: list[tuple[int, int]] = []
    for make_drafter in (FusedDrafter, OnePathDrafter):
        stack = shelf.stack(kind)
        before = (stack.num_row_layers, stack.num_head_rows)
        with EngineHarness(stack, make_drafter, policy=skip) as cell:
            told.append(cell.run(*requests))
            pools.append(torch.stack(cell.pool.layers).clone())
        work.append((stack.num_row_layers - before[0], stack.num_head_rows - before[1]))
    for chain, tree in zip(*told, strict=True):
        assert tree.token_ids == chain.token_ids
        assert tree.sources == chain.sources
        assert tree.summary == chain.summary
        for one, other in zip(chain.rounds, tree.rounds, strict=True):
            assert other.draft_len == one.draft_len
            own, others = ([p for p, _ in each.logprobs] for each in (one, other))
            assert others == pytest.approx(own, abs=1e-4)
    assert any(each.path for each in told[1][0].rounds), "nothing was accepted"
    assert work[0] == work[1]
    torch.testing.assert_close(pools[0], pools[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampling", [GREEDY, sampled(3)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("num_new", range(1, 6))
def test_a_tree_is_as_deep_as_there_are_tokens_left(
    num_new: int, sampling: SamplingParams, shelf: ModelShelf
) -> None:
    prompt, wished = make_prompt(3, 6), Decision(LAYERSKIP, 3, 7, tree=TreeBudget(7, 4, 1.0))
    with EngineHarness(shelf.stack("llama")) as cell:
        [recorded] = cell.run(make_request(prompt, num_new, wished=wished, sampling=sampling))
    assert recorded.token_ids == shelf.plain("llama", prompt, num_new, sampling).token_ids
    assert recorded.reason is FinishReason.LENGTH


@pytest.mark.parametrize("page_size", [1, 4])
@pytest.mark.parametrize("sampling", [GREEDY, sampled(5)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
def test_a_tree_wider_than_the_context_is_long_ends_the_text_as_plain_decoding(
    page_size: int, sampling: SamplingParams, is_split: bool, shelf: ModelShelf
) -> None:
    prompt = make_prompt(6, MAX_CONTEXT_LEN - 13)
    make_drafter = split_with(shelf.draft_stack("llama")) if is_split else FusedDrafter
    options = HarnessOptions(page_size=page_size, max_draft_len=14)
    with EngineHarness(shelf.stack("llama"), make_drafter, options) as cell:
        wished = Decision(LAYERSKIP, 2, 4, tree=TreeBudget(14, 4, 1.0))
        [recorded] = cell.run(make_request(prompt, 100, wished=wished, sampling=sampling))
    assert recorded.token_ids == shelf.plain("llama", prompt, 100, sampling).token_ids
    assert recorded.reason is FinishReason.LENGTH
    assert max(each.draft_len for each in recorded.rounds) > 4, "no tree was drafted"


def test_where_pages_are_short_trees_are_smaller(shelf: ModelShelf) -> None:
    prompt, num_new = make_prompt(2, 9), 23
    options = HarnessOptions(page_size=4, num_pages=8, max_draft_len=14)
    wished = Decision(LAYERSKIP, 2, 3, tree=TreeBudget(14, 4, 1.0))
    with EngineHarness(shelf.stack("llama"), options=options) as cell:
        [recorded] = cell.run(make_request(prompt, num_new, wished=wished))
    assert recorded.token_ids == shelf.plain("llama", prompt, num_new).token_ids
    cut = [each for each in recorded.rounds if each.decision.reason == "no_pages"]
    assert cut, "there was always room"
    for each in cut:
        assert each.draft_len <= each.decision.max_nodes < 14


def test_a_tree_runs_each_layer_once_per_node_and_heads_where_it_may_go_on(
    shelf: ModelShelf,
) -> None:
    observer = WorkObserver()
    draft_stack = shelf.draft_stack("llama")
    wished = Decision(LAYERSKIP, 2, 3, tree=TreeBudget(7, 2, 1.0))
    with EngineHarness(shelf.stack("llama"), split_with(draft_stack), observer=observer) as cell:
        observer.cell = cell
        cell.run(make_request(make_prompt(1, 9), 30, wished=wished))
    whole = [each for each in observer.rounds if each[0].draft_len == 7]
    assert len(whole) >= 3
    for _, verify, draft in whole:
        assert verify == (8 * (NUM_LAYERS - 2), 8)
        # Heads: the pending token, both nodes of the first level, the chain's own of the second.
        assert draft == (8 * 2, 4)
