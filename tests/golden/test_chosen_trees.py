"""Trees that the controller chooses: the text is that of plain decoding, whatever is chosen."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from services.verify.session import SessionRequest
from shared.control import tree_plans
from shared.control.evidence import branch_counts
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.step_learning import StepLearning
from shared.control.steps import SessionLoad
from shared.control.tree_plans import TreePlans
from shared.model.layer_stack import load_stack
from shared.model.plain import PlainDecoder
from shared.speculation.tree_costs import Branches
from shared.speculation.vocabulary import LAYERSKIP, Decision, SamplingParams, StopParams
from shortstack.checkpoint import BUNDLED
from shortstack.demo import PROMPTS
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    Recorded,
    make_request,
    split_with,
)
from tests.golden.reference import GREEDY, ModelShelf, TieCount, make_prompt, sampled

MS = 1_000_000
NUM_NEW, MAX_NODES = 48, 14
WISHED = Decision(LAYERSKIP, 2, 6)


def free_request(
    prompt: Sequence[int], num_new: int, sampling: SamplingParams, arms: tuple[int, ...]
) -> SessionRequest:
    """Return a request whose rounds `goodput` decides."""
    request = make_request(prompt, num_new, wished=WISHED, sampling=sampling)
    return replace(request, policy="goodput", arms=arms)


def num_trees(recorded: Recorded) -> int:
    return sum(each.tree is not None for each in recorded.rounds)


class MoodyGovernor(LoadGovernor):
    """Lets most rounds branch somehow, whatever it decided; it learns of them all the same."""

    draw = random.Random(7)

    def decide(self, loads: Sequence[SessionLoad], *, num_prompts: int = 0) -> list[Decision]:
        """Return what was decided, or a tree as far as there is room."""
        decided = super().decide(loads, num_prompts=num_prompts)
        return [self._moody(load, each) for load, each in zip(loads, decided, strict=True)]

    def goes_on(self) -> bool:
        """Be asked in every round."""
        return False

    def _moody(self, load: SessionLoad, decided: Decision) -> Decision:
        draw, longest = self.draw, load.wished.max_draft_len
        if load.wished.is_off or draw.random() < 0.2:
            return decided
        draft_len = draw.randint(1, longest)
        branches = Branches(draw.randint(1, 3), draw.randint(1, 4), draw.choice((0.3, 0.6, 1.0)))
        tree = branches.budget(draft_len)
        tree = replace(tree, max_nodes=min(tree.max_nodes, load.max_nodes))
        return Decision(LAYERSKIP, draw.choice(load.arms), draft_len, tree=tree)


@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("sampling", [GREEDY, sampled(11)], ids=["greedy", "sampled"])
def test_random_trees_round_by_round_change_no_text(
    sampling: SamplingParams, is_split: bool, shelf: ModelShelf
) -> None:
    options = HarnessOptions(max_draft_len=MAX_NODES, sheds=True)
    make_drafter = split_with(shelf.draft_stack("llama")) if is_split else FusedDrafter
    prompts = [make_prompt(seed, 6) for seed in range(4)]
    with EngineHarness(shelf.stack("llama"), make_drafter, options) as cell:
        cell.engine.steps.governor.__class__ = MoodyGovernor
        # One alone, then the others side by side.
        requests = [free_request(prompt, 30, sampling, (1, 2)) for prompt in prompts]
        found = [*cell.run(requests[0]), *cell.run(*requests[1:])]
    for prompt, recorded in zip(prompts, found, strict=True):
        assert recorded.token_ids == shelf.plain("llama", prompt, 30, sampling).token_ids
        assert num_trees(recorded) > 3


def test_where_rows_cost_nothing_trees_are_chosen_and_change_no_text(
    ties: TieCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = load_stack(BUNDLED)
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    lines = PROMPTS.read_text().splitlines()
    prompts = [tokenizer.encode(json.loads(line)["prompt"]).ids for line in lines]
    plain, sampling = PlainDecoder(BUNDLED, stack=stack), SamplingParams(0.8, seed=5)
    texts = [plain.generate(list(each), sampling, StopParams(NUM_NEW)) for each in prompts]
    options = HarnessOptions(page_size=16, max_draft_len=MAX_NODES, sheds=True)
    # Whatever little they promise.
    monkeypatch.setattr(tree_plans, "MIN_ON_GAIN", 0.01)
    monkeypatch.setattr(tree_plans, "MIN_GAIN", 0.01)
    found = 0
    with EngineHarness(stack, options=options) as cell:
        pin_costs(cell, monkeypatch)
        for prompt, expected in 2 * list(zip(prompts, texts, strict=True)):
            [recorded] = cell.run(free_request(prompt, NUM_NEW, sampling, (3,)))
            ties.compare(recorded.token_ids, expected.token_ids, expected.gaps, "chosen trees")
            found += num_trees(recorded)
    assert found > 5


def pin_costs(cell: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows cost nothing, as where memory alone bounds a pass, whatever this machine takes.

    Few words have to do here: little is asked of what was read.
    """
    costs = cell.engine.steps.governor.costs
    for _ in range(8):
        for rows in (1, 2, 4, 8, 16):
            costs.note_pass({0: rows}, 13.0 * MS)
            costs.note_draft(3, rows, 4, 5 * 1.5 * MS)
    monkeypatch.setattr(branch_counts, "MIN_RANKED", 4.0)
    for owner, name in (
        (StepCosts, "note_pass"),
        (StepCosts, "note_draft"),
        (TreePlans, "note_draft"),
        (StepLearning, "_note_speed"),
    ):
        monkeypatch.setattr(owner, name, lambda *_: None)
