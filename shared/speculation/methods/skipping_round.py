"""A chain of drafts by the model less a skip set: k rows for k drafts, nothing is handed over."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.speculation.methods.base import DraftRow
from shared.speculation.methods.chain_round import ChainRound


@dataclass(slots=True)
class SkippingRound(ChainRound):
    """One round; its rows run all layers less what the task's skip set leaves out."""

    def next_rows(self) -> Sequence[DraftRow]:
        """Return the row of the next step; none once the chain has stopped."""
        if self.is_stopped:
            return ()
        # By name: `super()` without words finds no class in a dataclass with slots.
        rows = ChainRound.next_rows(self)
        return tuple(replace(row, skip_set=self.task.skip_set) for row in rows)
