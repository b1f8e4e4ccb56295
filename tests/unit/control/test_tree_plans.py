"""When the governor lets drafts branch: where rows are free, dear, or dearer than they seem."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest

from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome
from shared.speculation.vocabulary import LAYERSKIP, Decision
from tests.unit.tree_world import TreeWorld

MS = 1_000_000
# What reading the exit takes: a burst is due every so often.
READ_NS = 50_000
EXIT_LAYER, MAX_NODES = 2, 16
WISHED = Decision(LAYERSKIP, EXIT_LAYER, 8)
# An exit that knows when it may be wrong, and whose next best is then often right.
GOOD = ((0.15, 0.9), (0.7, 0.85, 0.9))
# Of nodes beyond the chain: what they take a round more, beyond their rows, in ms.
Surprise = Callable[[int], float]


@dataclass
class Cell:
    """One session at a time that decodes on a machine without noise.

    row_ms: what a row takes more in a pass, a quarter of it in a draft step.
    barren: where rounds that may branch are drafted instead, and not read.
    """

    row_ms: float
    world: TreeWorld = field(default_factory=lambda: TreeWorld(0.8, *GOOD))
    max_nodes: int = MAX_NODES
    surprise: Surprise = lambda num_nodes: 0.0
    barren: TreeWorld | None = None
    governor: LoadGovernor = field(default_factory=lambda: LoadGovernor(StepCosts(12)))
    tokens: int = 0
    ms: float = 0.0

    def load(self, key: str = "s") -> SessionLoad:
        """Return the session as one that is free to branch."""
        return SessionLoad(key, WISHED, arms=(EXIT_LAYER,), max_nodes=self.max_nodes)

    def step(self, num_prompts: int = 0) -> Decision:
        """Run a round; return what was decided."""
        load = self.load()
        [decision] = self.governor.decide([load], num_prompts=num_prompts)
        # Without tuned lengths, beside which there is hardly room for branches.
        self.governor._planning.trees.search()
        is_read = load.key in self.governor.shadow([load], [decision])
        if decision.is_off:
            outcome = RoundOutcome("s", decision, 0, 0, 1)
            self._note(outcome, 0.0, 10.0 + self.row_ms, num_prompts)
            return decision
        world = self.world
        if decision.tree is not None and self.barren is not None:
            world, is_read = self.barren, False
        made = world.play(decision)
        num_drafted, num_accepted = len(made.draft.draft_tokens), made.verdict.num_accepted
        outcome = RoundOutcome(
            "s",
            decision,
            num_drafted,
            num_accepted,
            num_accepted + 1,
            made.observe(EXIT_LAYER, is_read=is_read),
            made.tree,
        )
        num_nodes = num_drafted - outcome.depth
        draft_ms = 0.5 + 1.5 * (outcome.depth + 1) + 0.25 * self.row_ms * (num_drafted + 1)
        draft_ms += self.surprise(num_nodes) if num_nodes else 0.0
        pass_ms = 8.0 + self.row_ms * (num_drafted + 1)
        self._note(outcome, draft_ms, pass_ms, num_prompts, READ_NS if is_read else 0)
        return decision

    def _note(
        self,
        outcome: RoundOutcome,
        draft_ms: float,
        pass_ms: float,
        num_prompts: int,
        read_ns: int = 0,
    ) -> None:
        self.tokens += outcome.num_emitted
        self.ms += draft_ms + pass_ms
        draft_ns, pass_ns = int(MS * draft_ms), int(MS * pass_ms)
        step_ns = draft_ns + pass_ns + read_ns
        self.governor.note_step(
            StepOutcome([outcome], 32 * num_prompts, draft_ns, pass_ns, step_ns, read_ns)
        )

    def run(self, num_steps: int) -> Counter[bool]:
        """Run rounds; return how many of those with drafts might branch, by whether they might."""
        decisions = [self.step() for _ in range(num_steps)]
        return Counter(each.tree is not None for each in decisions if not each.is_off)

    def rate(self, num_steps: int) -> float:
        """Return tokens per ms over rounds to come."""
        self.tokens, self.ms = 0, 0.0
        self.run(num_steps)
        return self.tokens / self.ms


def test_where_rows_are_free_drafts_branch_and_bring_more() -> None:
    cell, chains = Cell(0.0), Cell(0.0, max_nodes=0)
    assert cell.run(600)[True] > 300
    assert cell.run(200)[True] > 170
    assert chains.run(800)[True] == 0
    assert cell.rate(1500) > 1.05 * chains.rate(1500)


def test_trees_stay_within_the_room_and_the_chain_has_its_own() -> None:
    cell = Cell(0.0)
    cell.run(300)
    trees = [each for each in (cell.step() for _ in range(300)) if each.tree is not None]
    assert trees
    for each in trees:
        assert each.tree is not None
        assert each.max_draft_len < each.tree.max_nodes <= MAX_NODES
        assert each.reason in ("policy", "tuned")
    small = Cell(0.0, max_nodes=WISHED.max_draft_len)
    small.run(300)
    for each in (small.step() for _ in range(300)):
        assert each.max_nodes <= WISHED.max_draft_len


@pytest.mark.parametrize(
    ("row_ms", "hits"), [(6.0, GOOD[1]), (0.0, (0.0, 0.0, 0.0))], ids=["dear", "never-hit"]
)
def test_where_siblings_do_not_pay_drafts_are_chains(
    row_ms: float, hits: tuple[float, ...]
) -> None:
    cell = Cell(row_ms, TreeWorld(0.8, GOOD[0], hits))
    assert cell.run(600)[True] == 0


def test_branches_are_not_sought_where_plain_steps_are_far_better() -> None:
    good, hopeless = Cell(0.0), Cell(4.0, TreeWorld(0.02, *GOOD))
    looks = {}
    for name, cell in {"good": good, "hopeless": hopeless}.items():
        cell.run(300)
        trees = cell.governor._planning.trees
        with patch.object(trees, "look", wraps=trees.look) as look:
            cell.run(300)
        looks[name] = look.call_count
    assert looks["good"] > 100
    assert looks["hopeless"] == 0


def test_an_exit_whose_next_best_nobody_has_read_drafts_chains() -> None:
    cell = Cell(0.0)
    cell.governor.sessions.shadow = lambda *_: {}  # type: ignore[method-assign]
    assert cell.run(400)[True] == 0


def test_branches_that_take_longer_than_their_rows_are_given_up() -> None:
    cell = Cell(0.0, surprise=lambda num_nodes: 5.0)
    chains = Cell(0.0, max_nodes=0)
    cell.run(600)
    chains.run(600)
    assert cell.run(400)[True] < 80
    assert cell.rate(1500) > 0.98 * chains.rate(1500)


def test_branches_that_gain_less_than_what_was_read_are_given_up() -> None:
    cell = Cell(0.3, barren=TreeWorld(0.8, GOOD[0], (0.0, 0.0, 0.0)))
    chains = Cell(0.3, max_nodes=0)
    # What siblings are said to bring is read in rounds that do not branch, and looks good.
    assert cell.run(1500)[True] > 0
    assert cell.run(1000)[True] < 250
    chains.run(2500)
    assert cell.rate(1500) > 0.97 * chains.rate(1500)


def test_beside_others_and_beside_prompts_drafts_are_chains() -> None:
    cell = Cell(0.0)
    cell.run(600)
    assert any(cell.step().tree is not None for _ in range(20))
    assert all(cell.step(num_prompts=1).tree is None for _ in range(20))
    for _ in range(20):
        decisions = cell.governor.decide([cell.load(), cell.load("t")])
        assert all(each.tree is None for each in decisions)
