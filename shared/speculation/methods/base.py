"""What a method of drafting is. Knows no tensors: a method says which rows run to which layer.

    method.open_round(task)  ->  round        one for every task, of whatever method
    round.next_rows()        ->  rows         run together with those of all other rounds
    round.note(choices)      <-  choices      until it has no more rows
    round.to_draft()         ->  draft

A new method is one file beside this one and a line in `registry`; `drafting` drives the rounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shared.ids import TokenId
from shared.speculation.skip_set import SkipSet
from shared.speculation.tree import RowPath
from shared.speculation.vocabulary import (
    Decision,
    Draft,
    RoundTask,
    SamplingParams,
    ShadowRead,
    TreeBudget,
)

if TYPE_CHECKING:
    from shared.model.page_table import PageTable


# What rows leave at exits that they pass, by exit, row by row: the runner's own, opaque to methods.
ExitStates = dict[int, list[Any]]


@dataclass(frozen=True, slots=True)
class HeadWish:
    """What choosing a token behind a row needs: the position chosen, the tokens before it.

    num_candidates: how many of the next best tokens are wanted as well.
    wants_chance: the confidence is to be the chance that the full model agrees.
    """

    params: SamplingParams
    position: int
    prompt_len: int
    history: Sequence[TokenId]
    num_candidates: int = 0
    wants_chance: bool = False


@dataclass(frozen=True, slots=True)
class DraftRow:
    """One row of a draft step: run layers [0, exit_layer) on a token, keep its exit state.

    `head` is None for a closing row, whose exit state is wanted but no token behind it. `kept` gets
    another state at each of its exits, all below exit_layer; None keeps nothing. `path` is that of
    a row of a tree, see `shared.speculation.tree`; None where every row of the round before this
    one is on it. `through_adapter`: the head reads the draft adapter of the exit, not the exit.

    With a skip set it runs all layers less those sub-layers, has no exit, and leaves no state.
    """

    table: "PageTable"
    token_id: TokenId
    position: int
    exit_layer: int
    exit_slot: int
    row_index: int
    head: HeadWish | None
    kept: ExitStates | None = None
    path: RowPath | None = None
    through_adapter: bool = False
    skip_set: SkipSet | None = None


class Choice(NamedTuple):
    """What was chosen behind a row that wished a head, and the next best as far as wished."""

    token_id: TokenId
    confidence: float
    candidates: tuple[TokenId, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftMeans:
    """What whoever drafts has to do it with, as far as a method may depend on it.

    num_layers: L of the model.
    adapter_layers: exits that have a draft adapter, ascending.
    """

    num_layers: int
    adapter_layers: tuple[int, ...] = ()


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

    def step(self, rows: Sequence[DraftRow]) -> list[Choice]:
        """Run one step; return the choices behind the rows that wish a head, in order.

        Args:
            rows: at least one, those of deeper exits first, those of a session next to each other.
        """
        ...

    def read_shadow(self, wishes: Sequence[ShadowWish]) -> list[tuple[ShadowRead, ...]]:
        """Read kept exits as drafts are read; return one tuple per wish, exits in its order."""
        ...


class DraftingRound(Protocol):
    """One round while it is drafted: rows out, choices in."""

    @property
    def task(self) -> RoundTask:
        """The task that it drafts."""
        ...

    def next_rows(self) -> Sequence[DraftRow]:
        """Return the rows of the next step; none: the draft is finished."""
        ...

    def note(self, choices: Sequence[Choice]) -> None:
        """Take what the rows of the step chose that wished a head, in their order."""
        ...

    def shadow_wish(self) -> ShadowWish | None:
        """Return what its rows left behind to be read, once it is finished; None: nothing."""
        ...

    def to_draft(self, shadow: tuple[ShadowRead, ...]) -> Draft:
        """Return the finished draft, with what was read as evidence."""
        ...


class Method(Protocol):
    """One way of drafting."""

    name: str

    def fault(self, means: DraftMeans) -> str:
        """Return what this method lacks to run at all, and how to mend it; empty: nothing."""
        ...

    def complete(self, given: Decision, means: DraftMeans) -> Decision:
        """Return what a session does that names this method and no more.

        Args:
            given: what it would do by the cell's settings, at whatever method.
            means: what there is to draft with.
        """
        ...

    def tree_of(self, max_nodes: int) -> TreeBudget:
        """Return how drafts of so many tokens branch, unless a request says otherwise."""
        ...

    def exit_layers(self, exits: Sequence[int], means: DraftMeans) -> Sequence[int]:
        """Return the exit layers E that a policy may choose from.

        Args:
            exits: those that the cell's settings name for early read-outs.
            means: what there is to draft with.
        """
        ...

    def check(self, decision: Decision, means: DraftMeans) -> None:
        """Refuse a decision that this method cannot run; InvalidRequest names the field."""
        ...

    def check_shadow(self, exits: Sequence[int], decision: Decision) -> None:
        """Refuse exits that cannot be read on a draft's way; InvalidRequest names the field."""
        ...

    def resume_layer(self, decision: Decision) -> int:
        """Return the layer at which verification takes the rows up."""
        ...

    def open_round(
        self, task: RoundTask, table: "PageTable", history: list[TokenId]
    ) -> DraftingRound:
        """Begin a round.

        Args:
            task: what is to be drafted.
            table: the session's pages.
            history: tokens at positions [0, committed_len), where choosing goes by them; else none;
                the round's own.
        """
        ...
