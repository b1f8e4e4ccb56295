"""What the engine's inbox holds: everything that happens outside its thread."""

from dataclasses import dataclass

from services.verify.drafter import DrafterEvent
from services.verify.session import Session


@dataclass(frozen=True, slots=True)
class Submit:
    """A session wants in."""

    session: Session


@dataclass(frozen=True, slots=True)
class Cancel:
    """A session's stream has ended."""

    session: Session


@dataclass(frozen=True, slots=True)
class Wake:
    """Something outside changed; the loop looks again."""


@dataclass(frozen=True, slots=True)
class MoveAll:
    """Tell every session to go on in another cell."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End the thread."""


EngineEvent = DrafterEvent | Submit | Cancel | Wake | MoveAll | Stop
