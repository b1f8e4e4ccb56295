"""What a method of drafting is. Knows no tensors: a method says which rows run to which layer.

A new method is one file beside this one and a line in `registry`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shared.ids import TokenId
from shared.speculation.vocabulary import (
    Decision,
    Draft,
    RoundTask,
    SamplingParams,
    ShadowRead,
)

if TYPE_CHECKING:
    from shared.model.page_table import PageTable


# What rows leave at exits that they pass, by exit, row by row: the runner's own, opaque to methods.
ExitStates = dict[int, list[Any]]


@dataclass(frozen=True, slots=True)
class HeadWish:
    """What choosing a token behind a row needs: the position chosen, the tokens before it."""

    params: SamplingParams
    position: int
    prompt_len: int
    history: Sequence[TokenId]


@dataclass(frozen=True, slots=True)
class DraftRow:
    """One row of a draft step: run layers [0, exit_layer) on a token, keep its exit state.

    `head` is None for a closing row, whose exit state is wanted but no token behind it. `kept` gets
    another state at each of its exits, all below exit_layer; None keeps nothing.
    """

    table: "PageTable"
    token_id: TokenId
    position: int
    exit_layer: int
    exit_slot: int
    row_index: int
    head: HeadWish | None
    kept: ExitStates | None = None


@dataclass(frozen=True, slots=True)
class ShadowWish:
    """What the rows of a round left behind, to be read now: one head wish per row."""

    kept: ExitStates
    heads: Sequence[HeadWish]


class DraftRunner(Protocol):
    """What a method may ask of the model; `shared.model.draft_runner` implements it."""

    def open_table(self, task: RoundTask) -> "PageTable":
        """Return the page table of a task's session; StaleHandle if it points outside."""
        ...

    def read_history(self, table: "PageTable", end: int) -> list[TokenId]:
        """Return the session's tokens at positions [0, end)."""
        ...

    def step(self, rows: Sequence[DraftRow]) -> tuple[list[TokenId], list[float]]:
        """Run one step; return ids and confidences of the rows that wish a head, in order."""
        ...

    def read_shadow(self, wishes: Sequence[ShadowWish]) -> list[tuple[ShadowRead, ...]]:
        """Read kept exits as drafts are read; return one tuple per wish, exits in its order."""
        ...


class Method(Protocol):
    """One way of drafting."""

    name: str

    def check(self, decision: Decision, num_layers: int) -> None:
        """Refuse a decision that this method cannot run; InvalidRequest names the field."""
        ...

    def check_shadow(self, exits: Sequence[int], decision: Decision) -> None:
        """Refuse exits that cannot be read on a draft's way; InvalidRequest names the field."""
        ...

    def resume_layer(self, decision: Decision) -> int:
        """Return the layer at which verification takes the rows up."""
        ...

    def draft(self, tasks: Sequence[RoundTask], runner: DraftRunner) -> list[Draft]:
        """Draft one round of every task, batched."""
        ...
