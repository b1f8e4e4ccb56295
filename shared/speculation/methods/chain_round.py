"""A chain of drafts while it is made, one row a step, and a closing row behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.speculation.methods.base import Choice, DraftRow, HeadWish, ShadowWish
from shared.speculation.methods.growing_draft import GrowingDraft


@dataclass(slots=True)
class ChainRound(GrowingDraft):
    """One round; every row runs to the exit of its task."""

    is_stopped: bool = False
    is_done: bool = False
    # That all drafts so far are kept, where they tell their chances.
    _chance: float = 1.0

    def next_rows(self) -> Sequence[DraftRow]:
        """Return the row of the next step: the pending token's or the last draft's."""
        if self.is_done:
            return ()
        task = self.task
        num_drafts = len(self.tokens)
        position = task.committed_len - 1 + num_drafts
        head = None
        if not self.is_stopped:
            history = self.history if task.sampling.needs_history else ()
            head = HeadWish(
                task.sampling,
                position + 1,
                task.prompt_len,
                history,
                wants_chance=task.decision.by_chance,
            )
        row = DraftRow(
            self.table,
            self.tokens[-1] if self.tokens else task.pending_tokens[0],
            position,
            task.decision.exit_layer,
            task.exit_slot,
            num_drafts,
            head,
            self.kept,
            through_adapter=self.through_adapter,
        )
        return (row,)

    def shadow_wish(self) -> ShadowWish | None:
        """Return what was kept, with what choosing behind each of the k + 1 rows needs."""
        if self.kept is None:
            return None
        task = self.task
        positions = range(task.committed_len, task.committed_len + len(self.tokens) + 1)
        heads = [
            HeadWish(
                task.sampling,
                position,
                task.prompt_len,
                self.history[:position] if task.sampling.needs_history else (),
                wants_chance=task.decision.by_chance,
            )
            for position in positions
        ]
        return ShadowWish(self.kept, heads)

    def note(self, choices: Sequence[Choice]) -> None:
        """Take the token of the step; none: that was the closing row."""
        if not choices:
            self.is_done = True
            return
        (choice,) = choices
        self.add(choice.token_id, choice.confidence)
        self.history.append(choice.token_id)
        self._chance *= choice.confidence
        sureness = self._chance if self.task.decision.by_chance else choice.confidence
        self.is_stopped = self.ends(len(self.tokens), choice.token_id, sureness)
