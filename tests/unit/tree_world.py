"""A text and an exit that drafts it: real chains and trees of drafts without a model, seeded.

The text's tokens are 0. What the exit chooses is right now and then, as sure as its shares say, and
where it is wrong the right token is among its next best as often as its hits say.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from shared.control.evidence.observation import Observation, observe
from shared.control.steps import TreeOutcome
from shared.ids import SessionId, TokenId
from shared.model.page_table import PageTable
from shared.speculation.acceptance import judge
from shared.speculation.methods.base import Choice
from shared.speculation.methods.tree_round import TreeRound
from shared.speculation.tree import RowPath, depths_of, is_first_child
from shared.speculation.tree_costs import LONGER
from shared.speculation.vocabulary import (
    Decision,
    Draft,
    Extent,
    RoundTask,
    SamplingParams,
    ShadowRead,
    TokenSource,
    TreeBudget,
    Verdict,
)

TABLE = PageTable([Extent(0, 8)], 4)
SURE, UNSURE = 0.9, 0.5


@dataclass
class Played:
    """A round: its draft, what became of it, and what would be chosen behind each of its rows."""

    draft: Draft
    verdict: Verdict
    choices: list[Choice]

    @property
    def tree(self) -> TreeOutcome | None:
        """What the draft did, if it branched."""
        parents = self.draft.parents
        if not parents:
            return None
        path = self.verdict.path
        on_chain = takewhile(lambda node: is_first_child(node, parents), path)
        num_on_path = len(path) + (self.verdict.source is TokenSource.RECOVERED)
        return TreeOutcome(max(depths_of(parents)), num_on_path, len(path) - len(list(on_chain)))

    def observe(self, exit_layer: int, *, is_read: bool) -> Observation:
        """Return what the round showed; is_read: its exit was read behind all rows."""
        committed = [TokenId(0)] * (self.verdict.num_accepted + 1)
        read = ShadowRead(
            exit_layer,
            tuple(each.token_id for each in self.choices),
            tuple(each.confidence for each in self.choices),
            candidates=tuple(each.candidates for each in self.choices),
        )
        shadow = [read] if is_read else []
        return observe(committed, exit_layer, self.draft, shadow, self.verdict.path)


@dataclass
class TreeWorld:
    """rate: of right choices; unsure: of right and of wrong ones; hits: within the i next best."""

    rate: float
    unsure: tuple[float, float]
    hits: tuple[float, ...]
    draw: random.Random = field(default_factory=lambda: random.Random(3))

    def play(self, decision: Decision) -> Played:
        """Draft and verify a round that is not off."""
        tree = decision.tree or TreeBudget(decision.max_draft_len, 2, 0.0)
        branching = replace(decision, tree=tree)
        task = RoundTask(
            SessionId("s"), 0, TABLE.extents, 0, (TokenId(0),), 5, 2, branching, SamplingParams()
        )
        making = TreeRound(task, TABLE, [])
        known: dict[int, Choice] = {}
        while rows := making.next_rows():
            wishing = [row.row_index for row in rows if row.head is not None]
            for row in wishing:
                known[row] = self._choose(making.parents, making.paths[row])
            making.note([known[row] for row in wishing])
        draft = making.to_draft(())
        verdict = judge(draft.draft_tokens, [TokenId(0)] * len(making.paths), draft.parents)
        choices = [
            known.get(row) or self._choose(making.parents, path)
            for row, path in enumerate(making.paths)
        ]
        return Played(draft, verdict, choices)

    def _choose(self, parents: Sequence[int], path: RowPath) -> Choice:
        """Choose behind a row; behind a sibling the exit is right less often."""
        is_on_chain = all(is_first_child(row - 1, parents) for row in path[1:])
        is_right = self.draw.random() < self.rate * (1.0 if is_on_chain else LONGER)
        is_unsure = self.draw.random() < self.unsure[not is_right]
        drawn = self.draw.random()
        rank = next((at for at, hit in enumerate(self.hits) if drawn < hit), None)
        others = [0 if at == rank and not is_right else 1 + at for at in range(len(self.hits))]
        token = TokenId(0 if is_right else 9)
        return Choice(token, UNSURE if is_unsure else SURE, tuple(map(TokenId, others)))
