"""A draft while it is made: what chains, trees and combs have alike."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.ids import TokenId
from shared.speculation.methods.base import ExitStates
from shared.speculation.tree import is_chain
from shared.speculation.vocabulary import Draft, RoundTask, ShadowRead, TreeBudget

if TYPE_CHECKING:
    from shared.model.page_table import PageTable

# Of a token that is not the draft's own choice.
NO_CONFIDENCE = 0.0


@dataclass(slots=True)
class GrowingDraft:
    """The draft of one round, as far as it is.

    history: tokens at positions [0, committed_len), where choosing goes by them; else none.
    through_adapter: whether the exit is read through its draft adapter.
    parents: of the tokens, see `shared.speculation.tree`; a chain may leave it empty.
    kept: what its rows leave behind at the exits that are to be read; None: nothing.
    """

    task: RoundTask
    table: "PageTable"
    history: list[TokenId]
    through_adapter: bool = False
    tokens: list[TokenId] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    kept: ExitStates | None = None

    def __post_init__(self) -> None:
        if self.task.shadow_exits:
            self.kept = {exit_layer: [] for exit_layer in self.task.shadow_exits}

    @property
    def budget(self) -> TreeBudget:
        """How far it may branch, where it may."""
        budget = self.task.decision.tree
        assert budget is not None, "a chain has no budget of branches"
        return budget

    @property
    def longest(self) -> int:
        """Most drafts that may follow each other."""
        decision = self.task.decision
        return min(decision.max_draft_len, decision.max_nodes)

    def ends(self, depth: int, token_id: TokenId, sureness: float) -> bool:
        """Say whether nothing is drafted behind a token at a depth, counted from 1.

        sureness: what the threshold is for: its confidence, or the chance of the whole path.
        """
        return (
            depth >= self.longest
            or sureness < self.task.decision.stop_threshold
            or token_id in self.task.stop_token_ids
        )

    def add(self, token_id: TokenId, confidence: float) -> None:
        """Add a token."""
        self.tokens.append(token_id)
        self.confidences.append(confidence)

    def to_draft(self, shadow: tuple[ShadowRead, ...]) -> Draft:
        """Return the finished draft."""
        return Draft(
            self.task.session_id,
            self.task.round_index,
            tuple(self.tokens),
            tuple(self.confidences),
            self.task.exit_slot,
            shadow=shadow,
            parents=() if is_chain(self.parents) else tuple(self.parents),
        )
