"""What the engine's inbox holds: everything that happens outside its thread."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.verify.drafter import DrafterEvent
from services.verify.session import Session
from shared.control.evidence.prior import Prior
from shared.control.skip_search.stream_record import StreamRecord


@dataclass(frozen=True, slots=True)
class Submit:
    """A session wants in."""

    session: Session


@dataclass(frozen=True, slots=True)
class Cancel:
    """A session's stream has ended."""

    session: Session


@dataclass(frozen=True, slots=True)
class Adopt:
    """What the store knows of a session: belief, and what an earlier turn left."""

    session: Session
    prior: Prior | None
    saved: bytes | None


@dataclass(frozen=True, slots=True)
class AdoptStream:
    """What the store knows of a task stream: its skip set, and how that was found."""

    name: str
    record: StreamRecord


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What steps took on equal machines, ns by field."""

    cells: Mapping[str, float]


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


EngineEvent = (
    DrafterEvent | Submit | Cancel | Adopt | AdoptStream | WarmStart | Wake | MoveAll | Stop
)
