"""A comb of drafts: a chain, and leaves beside those of its choices that were unsure (SWIFT).

    pending ─┬─ 0 ─┬─ 1 ─── 2        the chain: nodes [0, k), drafted as if it were alone
             ├─ 3  └─ 5              leaves: nodes [k, ...), by depth, next best of the same scores
             └─ 4

A leaf costs no draft step: where nothing is handed over but ids it is a row of verification alone.
Where the target leaves the chain for a leaf, the round is worth exactly one token more; that leaf's
KV is the only one to be moved into place, as chain nodes lie where they belong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from shared.ids import TokenId
from shared.speculation.methods.base import Choice, DraftRow
from shared.speculation.methods.growing_draft import NO_CONFIDENCE
from shared.speculation.methods.skipping_round import SkippingRound
from shared.speculation.tree import PENDING
from shared.speculation.vocabulary import Draft, ShadowRead, TreeBudget

# Children of a node, the chain's own among them, where that is surer than so much; as published.
WIDTHS = ((0.95, 1), (0.8, 3), (0.5, 5))
# Where it is no surer than any of these.
MAX_WIDTH = 10
# A choice that is surer has no siblings.
BRANCH_THRESHOLD = WIDTHS[0][0]


class Leaf(NamedTuple):
    """A sibling of the chain's node at `place`, from 0, and what it is worth beside others."""

    place: int
    token_id: TokenId
    worth: float


def leaves_of(choices: Sequence[Choice], budget: TreeBudget) -> list[Leaf]:
    """Return the leaves beside a chain, by place; where there is no room for all, the best.

    Of two leaves that one is worth more which the target comes by more often: all drafts before its
    place are right, its own is not, and it is the better candidate there.

    Args:
        choices: those that made the chain, with their next best.
        budget: of the whole draft, the chain included.
    """
    found = []
    reached = 1.0
    for place, choice in enumerate(choices):
        missed = reached * (1.0 - choice.confidence)
        others = choice.candidates[: _width(choice.confidence, budget) - 1]
        found += [Leaf(place, token, missed / rank) for rank, token in enumerate(others, 1)]
        reached *= choice.confidence
    num_spare = max(0, budget.max_nodes - len(choices))
    best = sorted(found, key=lambda leaf: -leaf.worth)[:num_spare]
    return sorted(best, key=lambda leaf: leaf.place)


def _width(confidence: float, budget: TreeBudget) -> int:
    if confidence >= budget.branch_threshold:
        return 1
    width = next((width for above, width in WIDTHS if confidence > above), MAX_WIDTH)
    return min(width, budget.max_width)


@dataclass(slots=True)
class CombRound(SkippingRound):
    """One round: the chain is drafted to its end, then the leaves are put beside it."""

    chosen: list[Choice] = field(default_factory=list)

    def next_rows(self) -> Sequence[DraftRow]:
        """Return the chain's next row, which wishes the next best of its choice as well."""
        num_others = min(self.budget.max_width, MAX_WIDTH) - 1
        rows = []
        for row in SkippingRound.next_rows(self):
            assert row.head is not None, "a closing row behind drafts that hand nothing over"
            rows.append(replace(row, head=replace(row.head, num_candidates=num_others)))
        return rows

    def note(self, choices: Sequence[Choice]) -> None:
        """Take the token of the step and its next best."""
        self.chosen += choices
        SkippingRound.note(self, choices)

    def to_draft(self, shadow: tuple[ShadowRead, ...]) -> Draft:
        """Return the chain with its leaves behind it."""
        self.parents = [PENDING + place for place in range(len(self.tokens))]
        for leaf in leaves_of(self.chosen, self.budget):
            self.add(leaf.token_id, NO_CONFIDENCE)
            self.parents.append(PENDING + leaf.place)
        return SkippingRound.to_draft(self, shadow)
