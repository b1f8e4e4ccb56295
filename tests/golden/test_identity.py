"""Speculative text equals plain text, whatever was drafted, where, and in which batch.

Of the grid (method x model x exit layer x draft length x page size x batch x fused or split x
greedy or sampled) there are cases enough that any two values of different axes meet; greedy texts
are compared with `transformers.generate`, sampled ones with `PlainDecoder`.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.verify.session import Session
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.plain import PlainDecoder
from shared.speculation.vocabulary import (
    KANGAROO,
    LAYERSKIP,
    PLAIN_DECISION,
    SWIFT,
    Decision,
    SamplingParams,
    StopParams,
    TreeBudget,
)
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    MakeDrafter,
    make_request,
    split_with,
)
from tests.golden.pairwise import pairwise
from tests.golden.random_sets import give_set
from tests.golden.reference import GREEDY, ModelShelf, TieCount, make_prompt, sampled
from tests.model_builder import EOS_ID, KINDS, NUM_LAYERS, reference_greedy, write_model

NUM_NEW = 26
MAX_DRAFT_LEN = 7
EXITS = range(1, NUM_LAYERS)
DRAFT_LENS = range(1, MAX_DRAFT_LEN + 1)
PAGE_SIZES = (1, 4, 16)
BATCHES = (1, 3)
TREES = (None, TreeBudget(MAX_DRAFT_LEN, 3, 1.0), TreeBudget(MAX_DRAFT_LEN, 2, 0.6))
COMBS = (TreeBudget(MAX_DRAFT_LEN, 10, 0.95), TreeBudget(2 * MAX_DRAFT_LEN, 4, 0.9))
# Each method in each way to use it: threshold, and tree.
FLAVOURS: tuple[tuple[str, float, TreeBudget | None], ...] = (
    *((LAYERSKIP, 0.0, tree) for tree in TREES),
    *((KANGAROO, threshold, tree) for threshold, tree in zip((0.0, 0.6, 1.01), TREES, strict=True)),
    (KANGAROO, 0.6, None),
    (SWIFT, 0.0, None),
    (SWIFT, 0.8, None),
    *((SWIFT, 0.0, comb) for comb in COMBS),
)


@dataclass(frozen=True)
class Case:
    """One point of the grid."""

    kind: str
    exit_layer: int
    draft_len: int
    page_size: int
    batch: int
    is_split: bool
    is_sampled: bool
    method: str
    threshold: float
    tree: TreeBudget | None

    def __str__(self) -> str:
        flavour = "split" if self.is_split else "fused"
        mode = "sampled" if self.is_sampled else "greedy"
        return (
            f"{self.kind}-E{self.exit_layer}-d{self.draft_len}-page{self.page_size}-"
            f"batch{self.batch}-{flavour}-{mode}{'-tree' if self.tree else ''}"
            + (f"-{self.method}-{self.threshold:g}" if self.method != LAYERSKIP else "")
        )


CASES = [
    Case(kind, exit_layer, draft_len, page_size, batch, is_split, is_sampled, *use)
    for kind, use, draft_len, exit_layer, page_size, batch, is_split, is_sampled in pairwise(
        list(KINDS), FLAVOURS, DRAFT_LENS, EXITS, PAGE_SIZES, BATCHES, (False, True), (False, True)
    )
]


@pytest.mark.parametrize("kind", KINDS)
def test_plain_greedy_text_equals_that_of_transformers(
    kind: str, shelf: ModelShelf, ties: TieCount
) -> None:
    for seed in range(3):
        prompt = make_prompt(seed, 3 + 9 * seed)
        plain = shelf.plain(kind, prompt, 40, stop_token_ids=[EOS_ID])
        expected = reference_greedy(shelf.path(kind), prompt, 40)
        ties.compare(plain.token_ids, expected, plain.gaps, f"{kind}, prompt {seed}")


def make_cell(
    shelf: ModelShelf, kind: str, method: str, is_split: bool
) -> tuple[LayerStack, MakeDrafter]:
    """Return the stack of a cell that can draft by a method, and what makes its drafter."""
    if method == KANGAROO:
        stack, draft_stack = shelf.adapted(kind), shelf.adapted_draft_stack(kind)
    else:
        stack, draft_stack = shelf.stack(kind), shelf.draft_stack(kind)
    return stack, split_with(draft_stack) if is_split else FusedDrafter


@pytest.mark.parametrize("case", CASES, ids=str)
def test_speculative_text_equals_plain_text(case: Case, shelf: ModelShelf, ties: TieCount) -> None:
    num_nodes = case.tree.max_nodes if case.tree else MAX_DRAFT_LEN
    options = HarnessOptions(page_size=case.page_size, max_draft_len=num_nodes)
    stack, make_drafter = make_cell(shelf, case.kind, case.method, case.is_split)
    prompts = [make_prompt(case.draft_len % 3 + seed, 5 + 7 * seed) for seed in range(case.batch)]
    samplings = [sampled(seed) if case.is_sampled else GREEDY for seed in range(case.batch)]
    # Sessions of a batch draft at different depths.
    exits = [1 + (case.exit_layer - 1 + index) % (NUM_LAYERS - 1) for index in range(case.batch)]
    decisions = [
        # Beside trees there are chains in the batch.
        Decision(
            case.method,
            0 if case.method == SWIFT else exits[index],
            case.draft_len,
            case.threshold,
            tree=None if index == 1 else case.tree,
        )
        for index in range(case.batch)
    ]
    draw = random.Random(str(case))

    def policy(session: Session) -> Decision:
        give_set(session, draw)
        return session.request.wished

    with EngineHarness(stack, make_drafter, options, policy=policy) as cell:
        found = cell.run(
            *(
                make_request(
                    prompt,
                    NUM_NEW,
                    session_id=f"ses-{index}",
                    wished=decisions[index],
                    sampling=samplings[index],
                    stop_token_ids=[EOS_ID],
                )
                for index, prompt in enumerate(prompts)
            )
        )
    for recorded, prompt, sampling in zip(found, prompts, samplings, strict=True):
        plain = shelf.plain(case.kind, prompt, NUM_NEW, sampling, [EOS_ID])
        ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, str(case))
        assert recorded.reason == plain.finish_reason
        if not case.is_sampled:
            expected = reference_greedy(shelf.path(case.kind), prompt, NUM_NEW)
            ties.compare(recorded.token_ids, expected, plain.gaps, f"{case}, transformers")
        assert recorded.summary.num_drafts > 0 or len(recorded.token_ids) <= 2
        if case.threshold > 1:
            # One draft, and its siblings if it may have any.
            most = case.tree.max_width if case.tree else 1
            assert max(each.draft_len for each in recorded.rounds) <= most


@pytest.mark.parametrize("sampling", [GREEDY, sampled(2)], ids=["greedy", "sampled"])
def test_a_rough_draft_head_changes_what_is_proposed_not_the_text(
    sampling: SamplingParams, tmp_path: Path
) -> None:
    """A vocabulary beyond the cache is drafted with int8 weights, where the CPU has them."""
    path = write_model(tmp_path / "model", vocab_size=12_000)
    prompt = make_prompt(3, 8)
    stack = load_stack(path)
    plain = PlainDecoder(path, stack=stack).generate(prompt, sampling, StopParams(40))
    for make_drafter in (FusedDrafter, split_with(load_stack(path, num_layers=1))):
        with EngineHarness(stack, make_drafter) as cell:
            wished = Decision(LAYERSKIP, 3, 5)
            [recorded] = cell.run(make_request(prompt, 40, wished=wished, sampling=sampling))
        assert recorded.token_ids == plain.token_ids


class RandomPolicy:
    """Draws method, exit layer, draft length, threshold and tree anew for every round."""

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)
        self.drawn: set[tuple[str, int]] = set()

    def __call__(self, session: Session) -> Decision:
        """Return the decision for the session's next round."""
        draw = self._generator
        if draw.random() < 0.2:
            return PLAIN_DECISION
        exit_layer, draft_len = draw.choice(EXITS), draw.choice(DRAFT_LENS)
        method = draw.choice((LAYERSKIP, KANGAROO, SWIFT))
        self.drawn.add((method, exit_layer))
        give_set(session, draw)
        threshold = draw.choice((0.0, 0.3, 0.7))
        tree = draw.choice((None, *COMBS) if method == SWIFT else TREES)
        exit_layer = 0 if method == SWIFT else exit_layer
        return Decision(method, exit_layer, draft_len, threshold, tree=tree)


@settings(
    max_examples=24,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 1 << 16),
    kind=st.sampled_from(sorted(KINDS)),
    page_size=st.sampled_from(PAGE_SIZES),
    num_sessions=st.integers(1, 4),
    prefill_chunk_len=st.sampled_from((1, 3, 8, 512)),
    is_split=st.booleans(),
)
def test_decisions_drawn_anew_each_round_do_not_change_the_text(
    seed: int,
    kind: str,
    page_size: int,
    num_sessions: int,
    prefill_chunk_len: int,
    is_split: bool,
    shelf: ModelShelf,
    ties: TieCount,
) -> None:
    options = HarnessOptions(page_size=page_size, prefill_chunk_len=prefill_chunk_len)
    stack, make_drafter = make_cell(shelf, kind, KANGAROO, is_split)
    prompts = [make_prompt(seed % 7 + index, 4 + 5 * index) for index in range(num_sessions)]
    samplings = [sampled(index) if index % 2 else GREEDY for index in range(num_sessions)]
    policy = RandomPolicy(seed)
    with EngineHarness(stack, make_drafter, options, policy=policy) as cell:
        found = cell.run(
            *(
                make_request(prompt, NUM_NEW, session_id=f"ses-{index}", sampling=sampling)
                for index, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
            )
        )
    assert policy.drawn, "the policy never drafted"
    for recorded, prompt, sampling in zip(found, prompts, samplings, strict=True):
        plain = shelf.plain(kind, prompt, NUM_NEW, sampling)
        ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, f"{kind}, seed {seed}")
