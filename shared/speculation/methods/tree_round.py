"""A tree of drafts while it is made: a chain, with branches where it is unsure.

    step   0        1         2
    row    pending  1, 2      3, 4, 5      every row of a level in one step, below it a closing one
    node            0, 1      2, 3, 4

             pending ─┬─ 0 ─┬─ 2           the first choices make the chain, whose places are kept
                      └─ 1  └─ 3           free; what else the budget allows goes to
                         └─ 4              siblings of an unsure choice, then to longer branches

Each node lies in a slot of its own and sees its ancestors alone; what is wanted of every row of a
chain is wanted of every row here. A tree that never branched is a chain.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.ids import TokenId
from shared.speculation.methods.base import Choice, DraftRow, HeadWish, ShadowWish
from shared.speculation.methods.growing_draft import NO_CONFIDENCE, GrowingDraft
from shared.speculation.tree import PENDING, RowPath


class _Wanted(NamedTuple):
    """A node that may be: behind which row, how sure the draft was if it chose it.

    sureness: to go by in drafting on.
    """

    row: int
    token_id: TokenId
    confidence: float
    sureness: float


@dataclass(slots=True)
class TreeRound(GrowingDraft):
    """One round; rows run to the exit of its task, level by level.

    paths: of all rows so far, that of the pending token first.
    """

    paths: list[RowPath] = field(default_factory=lambda: [(0,)])
    # By row, the chance that its path is kept, where drafts tell their chances.
    _chances: list[float] = field(default_factory=lambda: [1.0])
    # Rows of the next step, and those among them that wish a head: the chain's own first.
    _level: list[int] = field(default_factory=lambda: [0])
    _wishing: list[int] = field(default_factory=lambda: [0])

    def next_rows(self) -> Sequence[DraftRow]:
        """Return the rows of the next level."""
        wishing = set(self._wishing)
        num_before = self._level[0] if self._level else 0
        is_chain_so_far = len(self._level) == 1 and len(self.paths[num_before]) == num_before + 1
        return [
            DraftRow(
                self.table,
                self.tokens[row - 1] if row else self.task.pending_tokens[0],
                self.task.committed_len + len(self.paths[row]) - 2,
                self.task.decision.exit_layer,
                self.task.exit_slot,
                row,
                self._head(row, self.budget.max_width - 1) if row in wishing else None,
                self.kept,
                None if is_chain_so_far else self.paths[row],
                self.through_adapter,
            )
            for row in self._level
        ]

    def _head(self, row: int, num_candidates: int = 0) -> HeadWish:
        """Return what choosing behind a row needs: the tokens on its path are its history."""
        task, path = self.task, self.paths[row]
        history: list[TokenId] = []
        if task.sampling.needs_history:
            history = [*self.history, *(self.tokens[each - 1] for each in path[1:])]
        position = task.committed_len + len(path) - 1
        return HeadWish(
            task.sampling,
            position,
            task.prompt_len,
            history,
            num_candidates,
            task.decision.by_chance,
        )

    def note(self, choices: Sequence[Choice]) -> None:
        """Grow the tree by what was chosen behind the rows that wished it."""
        chosen = list(zip(self._wishing, choices, strict=True))
        self._level, self._wishing = [], []
        if not chosen:
            return
        main_row, main_choice = chosen[0]
        is_stopped = self._ends(main_row, main_choice.token_id, main_choice.confidence)
        # What the chain may still need is not for branches.
        num_kept_free = 0 if is_stopped else self.longest - len(self.paths[main_row])
        num_spare = self.budget.max_nodes - len(self.tokens) - 1 - num_kept_free
        wanted = list(self._wanted(chosen))[: 1 + max(0, num_spare)]
        has_room = num_spare > len(wanted) - 1
        for index, node in enumerate(wanted):
            row = self._add(node)
            may_go_on = not is_stopped and (index == 0 or has_room)
            if may_go_on and not self._ends(node.row, node.token_id, node.sureness):
                self._wishing.append(row)

    def _ends(self, row: int, token_id: TokenId, sureness: float) -> bool:
        """Say whether nothing is drafted behind a token that follows a row."""
        if self.task.decision.by_chance:
            sureness *= self._chances[row]
        return self.ends(len(self.paths[row]), token_id, sureness)

    def _wanted(self, chosen: Sequence[tuple[int, Choice]]) -> Iterator[_Wanted]:
        """Iterate over the nodes that may be added, those that bring most first."""
        (main_row, main), branches = chosen[0], chosen[1:]
        yield _Wanted(main_row, main.token_id, main.confidence, main.confidence)
        yield from self._siblings(main_row, main)
        for row, choice in branches:
            yield _Wanted(row, choice.token_id, choice.confidence, choice.confidence)
        for row, choice in branches:
            yield from self._siblings(row, choice)

    def _siblings(self, row: int, choice: Choice) -> Iterator[_Wanted]:
        if choice.confidence < self.budget.branch_threshold:
            # Nobody knows the confidence of a sibling; its chance is what the choice leaves.
            sureness = 1.0 - choice.confidence if self.task.decision.by_chance else 1.0
            for token_id in choice.candidates:
                yield _Wanted(row, token_id, NO_CONFIDENCE, sureness)

    def _add(self, node: _Wanted) -> int:
        """Add a node and return its row."""
        self.add(node.token_id, node.confidence)
        self.parents.append(node.row + PENDING)
        row = len(self.tokens)
        self.paths.append((*self.paths[node.row], row))
        self._chances.append(self._chances[node.row] * node.sureness)
        self._level.append(row)
        return row

    def shadow_wish(self) -> ShadowWish | None:
        """Return what was kept, with what choosing behind each of the rows needs."""
        if self.kept is None:
            return None
        return ShadowWish(self.kept, [self._head(row) for row in range(len(self.paths))])
