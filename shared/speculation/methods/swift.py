"""SWIFT: all layers less a skip set draft, all layers verify (Xia et al. 2025, arXiv:2410.06916).

    step      0          1        ...   k-1
    row       pending    c_1            c_{k-1}
    layers    [0, L) less the task's skip set
    head      c_1        c_2            c_k

There are k passes for k drafts and no closing row, as nothing is handed over but ids: verification
embeds them itself and runs from layer 0 on. Kept attention sub-layers write approximate KV at
[n-1, n-1+k) of the session's pages and read it there behind the exact KV of [0, n-1); verification
overwrites it in every layer, so that no round reads what an earlier draft wrote. Which sub-layers
are skipped comes with the task: `shared.control.skip_search` finds them. Where the decision allows
a tree, leaves stand beside the chain's unsure choices: see `comb_round`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest
from shared.ids import TokenId
from shared.speculation.methods.base import DraftMeans
from shared.speculation.methods.comb_round import BRANCH_THRESHOLD, MAX_WIDTH, CombRound
from shared.speculation.methods.skipping_round import SkippingRound
from shared.speculation.skip_set import MIN_LAYERS
from shared.speculation.vocabulary import SWIFT, Decision, RoundTask, TreeBudget

if TYPE_CHECKING:
    from shared.model.page_table import PageTable

# Long drafts and a high threshold are for drafts that are nearly always right (published values).
MAX_DRAFT_LEN = 25
STOP_THRESHOLD = 0.8


class Swift:
    """The method; keeps nothing between rounds."""

    name = SWIFT

    def fault(self, means: DraftMeans) -> str:
        """Say that there is nothing to skip."""
        if means.num_layers >= MIN_LAYERS:
            return ""
        return (
            "method swift skips layers between the first and the last; a model of "
            f"{means.num_layers} has none"
        )

    def complete(self, given: Decision, means: DraftMeans) -> Decision:
        """Draft to the end, as long and as sure as published: the cell's settings are of exits."""
        return Decision(SWIFT, 0, MAX_DRAFT_LEN, STOP_THRESHOLD, given.reason)

    def tree_of(self, max_nodes: int) -> TreeBudget:
        """Put as many leaves beside every unsure choice as published."""
        return TreeBudget(max_nodes, MAX_WIDTH, BRANCH_THRESHOLD)

    def exit_layers(self, exits: Sequence[int], means: DraftMeans) -> Sequence[int]:
        """Return 0 alone: drafts have no exit."""
        return (0,)

    def check(self, decision: Decision, means: DraftMeans) -> None:
        """Refuse an exit layer, as drafts run to the end, and models with nothing to skip."""
        if fault := self.fault(means):
            raise InvalidRequest(fault, field="speculation.method")
        if decision.exit_layer:
            raise InvalidRequest(
                f"exit_layer {decision.exit_layer}: method swift has none; leave it out",
                field="speculation.exit_layer",
            )

    def check_shadow(self, exits: Sequence[int], decision: Decision) -> None:
        """Refuse all: what a row is at some layer says nothing of that exit, as layers are missing.

        Raises:
            InvalidRequest: there are any.
        """
        if exits:
            raise InvalidRequest(
                f"shadow_exits {tuple(exits)}: rows of method swift pass no exit",
                field="shadow_exits",
            )

    def resume_layer(self, decision: Decision) -> int:
        """Verification runs all layers."""
        return 0

    def open_round(
        self, task: RoundTask, table: "PageTable", history: list[TokenId]
    ) -> SkippingRound:
        """Begin a chain of drafts by the model less the task's skip set, or a comb of them."""
        kind = SkippingRound if task.decision.tree is None else CombRound
        return kind(task, table, history)
