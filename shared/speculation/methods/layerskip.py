"""LayerSkip: layers [0, E) draft, layers [E, L) verify (Elhoushi et al. 2024, arXiv:2404.16710).

    step      0          1        ...   k-1         k (closing)
    row       pending    c_1            c_{k-1}     c_k
    layers    [0, E)     [0, E)         [0, E)      [0, E)
    head      c_1        c_2            c_k         -

Every row leaves its KV of layers [0, E) in the session's pages and x_E in the exit-state region, so
that verification runs layers [E, L) only. A draft ends behind a token of low confidence or one that
ends the session; that token stays in the draft and is verified. Where the decision allows a tree,
an unsure choice gets siblings: see `tree_round`.

Where evidence of shallower exits is wanted, each row keeps x_e as it passes e. All of them are read
together behind the last step, when the tokens before every row are known.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest
from shared.ids import TokenId
from shared.speculation.methods.base import DraftMeans
from shared.speculation.methods.chain_round import ChainRound
from shared.speculation.methods.tree_round import TreeRound
from shared.speculation.vocabulary import LAYERSKIP, Decision, RoundTask, TreeBudget

if TYPE_CHECKING:
    from shared.model.page_table import PageTable


class LayerSkip:
    """The method; keeps nothing between rounds."""

    name = LAYERSKIP

    def fault(self, means: DraftMeans) -> str:
        """Two layers are enough."""
        return "" if means.num_layers > 1 else "method layerskip needs a model of 2 layers or more"

    def complete(self, given: Decision, means: DraftMeans) -> Decision:
        """The cell's settings are made for this method."""
        return replace(given, method=LAYERSKIP)

    def tree_of(self, max_nodes: int) -> TreeBudget:
        """Branch as trees do."""
        return TreeBudget(max_nodes)

    def exit_layers(self, exits: Sequence[int], means: DraftMeans) -> Sequence[int]:
        """Return those of the settings."""
        return exits

    def check(self, decision: Decision, means: DraftMeans) -> None:
        """Refuse exits outside [1, L-1]: 0 drafts nothing and L leaves nothing to verify."""
        if not 1 <= decision.exit_layer <= means.num_layers - 1:
            raise InvalidRequest(
                f"exit_layer {decision.exit_layer} must lie in [1, {means.num_layers - 1}]",
                field="speculation.exit_layer",
            )

    def check_shadow(self, exits: Sequence[int], decision: Decision) -> None:
        """Refuse exits that rows do not pass on their way to E, and any order but ascending."""
        check_passed_exits(exits, decision)

    def resume_layer(self, decision: Decision) -> int:
        """Verification goes on from x_E."""
        return decision.exit_layer

    def open_round(
        self, task: RoundTask, table: "PageTable", history: list[TokenId]
    ) -> ChainRound | TreeRound:
        """Begin a chain of drafts at the task's exit, or a tree of them."""
        return open_exit_round(task, table, history)


def open_exit_round(
    task: RoundTask, table: "PageTable", history: list[TokenId], *, through_adapter: bool = False
) -> ChainRound | TreeRound:
    """Begin a round whose rows run to the task's exit: a chain, or a tree where one may be."""
    kind = ChainRound if task.decision.tree is None else TreeRound
    return kind(task, table, history, through_adapter)


def check_passed_exits(exits: Sequence[int], decision: Decision) -> None:
    """Refuse exits to be read that rows do not pass on their way to the decision's own.

    Raises:
        InvalidRequest: they do not ascend, or one does not lie in [1, E).
    """
    own = decision.exit_layer
    if list(exits) != [each for each in range(1, own) if each in exits]:
        raise InvalidRequest(
            f"shadow_exits {tuple(exits)} must ascend and lie in [1, {own})", field="shadow_exits"
        )
