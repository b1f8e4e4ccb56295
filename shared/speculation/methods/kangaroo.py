"""Kangaroo: layers [0, l) and a draft adapter draft, layers [l, L) verify (arXiv:2404.18911).

    step      0          1        ...   k-1         k (closing)
    row       pending    c_1            c_{k-1}     c_k
    layers    [0, l)     [0, l)         [0, l)      [0, l)
    adapter   c_1        c_2            c_k         keys and values only
    head      c_1        c_2            c_k         -

The target is as it was; all that was trained is the adapter, which the head reads in place of the
exit. A round is a chain like LayerSkip's: x_l rows are handed over, and the adapter's keys and
values are written by whoever runs layer l-1, here the draft worker. Drafting stops early by
confidence, which makes the longest draft nearly irrelevant.

Adapters are no early read-outs of the target: what they choose is known from their rounds alone.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest
from shared.ids import TokenId
from shared.speculation.methods.base import DraftMeans
from shared.speculation.methods.chain_round import ChainRound
from shared.speculation.methods.layerskip import check_passed_exits, open_exit_round
from shared.speculation.methods.tree_round import TreeRound
from shared.speculation.vocabulary import KANGAROO, Decision, RoundTask, TreeBudget

if TYPE_CHECKING:
    from shared.model.page_table import PageTable

# The paper's: up to 6 drafts, ended behind the first that is less sure than this.
DEFAULT_DRAFT_LEN = 6
DEFAULT_STOP_THRESHOLD = 0.6


class Kangaroo:
    """The method; keeps nothing between rounds."""

    name = KANGAROO

    def fault(self, means: DraftMeans) -> str:
        """Say that there is no adapter to draft with."""
        if means.adapter_layers:
            return ""
        return (
            "method kangaroo needs a draft adapter, and this cell has none: train one with "
            "`shortstack train kangaroo` and serve the model with it (SHORTSTACK_MODEL__"
            "DRAFT_ADAPTERS, see docs/kangaroo.md), or use another method"
        )

    def complete(self, given: Decision, means: DraftMeans) -> Decision:
        """Draft at the shallowest adapter, as long and as sure as published."""
        exit_layer = means.adapter_layers[0] if means.adapter_layers else 0
        return Decision(
            KANGAROO, exit_layer, DEFAULT_DRAFT_LEN, DEFAULT_STOP_THRESHOLD, given.reason
        )

    def tree_of(self, max_nodes: int) -> TreeBudget:
        """Branch as trees do."""
        return TreeBudget(max_nodes)

    def exit_layers(self, exits: Sequence[int], means: DraftMeans) -> Sequence[int]:
        """Return those that an adapter hangs on."""
        return means.adapter_layers

    def check(self, decision: Decision, means: DraftMeans) -> None:
        """Refuse exits that no adapter hangs on."""
        if fault := self.fault(means):
            raise InvalidRequest(fault, field="speculation.method")
        if decision.exit_layer not in means.adapter_layers:
            layers = ", ".join(map(str, means.adapter_layers))
            raise InvalidRequest(
                f"exit_layer {decision.exit_layer} has no draft adapter; method kangaroo drafts at "
                f"{layers}, or leave exit_layer out",
                field="speculation.exit_layer",
            )

    def check_shadow(self, exits: Sequence[int], decision: Decision) -> None:
        """Rows pass the same exits as in a chain of LayerSkip's."""
        check_passed_exits(exits, decision)

    def resume_layer(self, decision: Decision) -> int:
        """Verification goes on from x_l."""
        return decision.exit_layer

    def open_round(
        self, task: RoundTask, table: "PageTable", history: list[TokenId]
    ) -> ChainRound | TreeRound:
        """Begin a chain of drafts that the head reads through the adapter, or a tree of them."""
        return open_exit_round(task, table, history, through_adapter=True)
