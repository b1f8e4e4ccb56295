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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest
from shared.ids import TokenId
from shared.speculation.methods.base import (
    Choice,
    DraftMeans,
    DraftRow,
    ExitStates,
    HeadWish,
    ShadowWish,
)
from shared.speculation.methods.tree_round import TreeRound
from shared.speculation.vocabulary import LAYERSKIP, Decision, Draft, RoundTask, ShadowRead

if TYPE_CHECKING:
    from shared.model.page_table import PageTable


class LayerSkip:
    """The method; keeps nothing between rounds."""

    name = LAYERSKIP
    drafts_trees = True

    def fault(self, means: DraftMeans) -> str:
        """Two layers are enough."""
        return "" if means.num_layers > 1 else "method layerskip needs a model of 2 layers or more"

    def complete(self, given: Decision, means: DraftMeans) -> Decision:
        """The cell's settings are made for this method."""
        return replace(given, method=LAYERSKIP)

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
        self, task: RoundTask, table: "PageTable", history: Sequence[TokenId]
    ) -> "ChainRound | TreeRound":
        """Begin a chain of drafts at the task's exit, or a tree of them."""
        tree = task.decision.tree
        if tree is not None:
            return TreeRound(task, table, tree, history)
        return ChainRound(task, table, list(history))


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


@dataclass(slots=True)
class ChainRound:
    """One chain of drafts while it is made, and a closing row behind it.

    through_adapter: whether the exit is read through its draft adapter.
    """

    task: RoundTask
    table: "PageTable"
    history: list[TokenId]
    tokens: list[TokenId] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    is_stopped: bool = False
    is_done: bool = False
    kept: ExitStates | None = None
    through_adapter: bool = False

    def __post_init__(self) -> None:
        if self.task.shadow_exits:
            self.kept = {exit_layer: [] for exit_layer in self.task.shadow_exits}

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
            head = HeadWish(task.sampling, position + 1, task.prompt_len, history)
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
        self.tokens.append(choice.token_id)
        self.history.append(choice.token_id)
        self.confidences.append(choice.confidence)
        decision = self.task.decision
        self.is_stopped = (
            len(self.tokens) == decision.max_draft_len
            or choice.confidence < decision.stop_threshold
            or choice.token_id in self.task.stop_token_ids
        )

    def to_draft(self, shadow: tuple[ShadowRead, ...]) -> Draft:
        """Return the finished draft."""
        return Draft(
            self.task.session_id,
            self.task.round_index,
            tuple(self.tokens),
            tuple(self.confidences),
            self.task.exit_slot,
            shadow=shadow,
        )
