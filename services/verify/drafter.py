"""The seam to whoever drafts: another process (split cell), this one (fused cell), or nobody.

A drafter gets the rounds of a pass and puts its answers into the engine's inbox.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.speculation.vocabulary import Draft, RoundTask


@dataclass(frozen=True, slots=True)
class DraftsArrived:
    """Answers of a drafter."""

    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class DrafterReady:
    """A draft worker is attached; it writes nothing of rounds from before its attachment.

    `drafter` takes the rounds of this attachment, where each has one of its own: a round ordered of
    a lost attachment must not reach the next one. reads_alike: what this worker reads at an exit is
    what it would draft there. give_up: ends this attachment for a reason, so that the cell attaches
    anew; a drafter that is no stream cannot be attached anew.
    """

    worker_id: str
    liveness_path: Path | None = None
    drafter: "Drafter | None" = None
    reads_alike: bool = True
    give_up: Callable[[str], None] = lambda reason: None


@dataclass(frozen=True, slots=True)
class DrafterLost:
    """The stream to the draft worker ended; it may write on until its liveness lock is free."""

    reason: str


DrafterEvent = DraftsArrived | DrafterReady | DrafterLost
Inbox = Callable[[DrafterEvent], None]


class Drafter(Protocol):
    """Whoever drafts."""

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Order the rounds of one pass; called from the engine's thread."""
        ...


class NoDrafter:
    """Nobody drafts: a plain cell, or a split one whose draft worker is not attached yet."""

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Never called: this drafter is never ready."""
        raise AssertionError("there is no drafter")
