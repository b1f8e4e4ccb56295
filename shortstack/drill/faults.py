"""The catalogue of faults: what is done, what is promised, what shows it. Pure.

The promises are those of the fault model (docs/failure-modes.md tells of each at length). In every
drill no request is lost, no token differs from plain decoding, and nothing is held afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from shortstack.errors import UsageError

# Recovery of speculation, once the worker that was away is back.
MAX_RECOVERY_S = 5.0


class ErrorsSeen(Enum):
    """Whether a client may see an error that tells it to send its request again."""

    NEVER = "never"
    WITHOUT_ANOTHER_CELL = "where there is no other cell"
    MAY = "may"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    logs: (process, event) that must be logged; a process is named by how its name begins.
    least_hold_s: where a fault must last for what is promised to happen at all.
    needs_clock: whether the processes must run under a clock that can be set.
    """

    name: str
    what: str
    promise: str
    errors: ErrorsSeen = ErrorsSeen.NEVER
    logs: tuple[tuple[str, str], ...] = ()
    least_hold_s: float = 0.0
    needs_clock: bool = False

    def errors_allowed(self, num_cells: int) -> bool:
        """Say whether clients may be told to send a request again."""
        alone = self.errors is ErrorsSeen.WITHOUT_ANOTHER_CELL and num_cells == 1
        return alone or self.errors is ErrorsSeen.MAY


DRAFTER_LOST = ("verify", "speculation off: draft worker lost")
REDIS_LOST = ("gateway", "redis lost")
ELSEWHERE = ErrorsSeen.WITHOUT_ANOTHER_CELL

FAULTS = (
    Fault(
        "draft-killed",
        "SIGKILL to a draft worker; later a new one",
        "costs speed only: its cell goes on without drafts, then drafts again",
        logs=(DRAFTER_LOST,),
    ),
    Fault(
        "draft-stopped",
        "SIGSTOP to a draft worker, later SIGCONT",
        "costs speed only; what it may still write to is set aside until it has answered",
    ),
    Fault(
        "verify-killed",
        "SIGKILL to a verify worker; later a new one",
        "its sessions are replayed on another cell: no repeat, no gap",
        ELSEWHERE,
        logs=(("gateway", "cell left"),),
    ),
    Fault(
        "verify-stopped",
        "SIGSTOP to a verify worker for longer than keepalive waits, then SIGCONT",
        "new requests go elsewhere, its sessions are replayed when keepalive gives it up",
        ELSEWHERE,
        logs=(("gateway", "cell left"),),
        # keepalive 20 s + 5 s, and time for the replays.
        least_hold_s=30.0,
    ),
    Fault(
        "gateway-killed",
        "SIGKILL to the gateway; later a new one",
        "streams end with UNAVAILABLE; sent again, each gets the same text; no session lives on",
        ErrorsSeen.MAY,
    ),
    Fault(
        "redis-killed",
        "SIGKILL to Redis; later a new, empty one",
        "no error, no wait; gateways keep the cells they know, which announce themselves anew",
        logs=(REDIS_LOST, ("gateway", "redis back")),
    ),
    Fault(
        "redis-stopped",
        "SIGSTOP to Redis, later SIGCONT",
        "no error, no wait; gateways keep the cells they know",
        logs=(REDIS_LOST, ("gateway", "redis back")),
    ),
    Fault(
        "shm-full",
        "a verify worker is started anew where /dev/shm cannot hold its pool",
        "it refuses to start, with the numbers, and leaves nothing there",
        ELSEWHERE,
    ),
    Fault(
        "shm-foreign",
        "a draft worker is started anew where /dev/shm is another",
        "it is refused at attach; its cell serves plain until one is there that shares memory",
        logs=(DRAFTER_LOST, ("verify", "attach failed")),
    ),
    Fault(
        "slow-client",
        "clients that stop reading in the middle of long answers",
        "the others do not wait; a client that takes nothing for so long loses its request",
        logs=(("gateway", "slow reader cut off"),),
    ),
    Fault(
        "client-cut",
        "connections of clients are cut, and closed on one side only, in the middle",
        "their sessions end and give their memory back; sent again, each gets the same text",
        ErrorsSeen.MAY,
    ),
    Fault(
        "pair-cut",
        "the connection between the workers of a cell is cut again and again",
        "costs speed only: the round is over without drafts, the cell attaches anew",
        logs=(DRAFTER_LOST,),
    ),
    Fault(
        "pair-held",
        "the connection between the workers of a cell carries nothing for a while",
        "costs speed only; late answers are dropped and counted",
    ),
    Fault(
        "pair-garbled",
        "bytes between the workers of a cell are flipped",
        "costs speed only: what cannot be read ends the connection, the cell attaches anew",
    ),
    Fault(
        "draft-malformed",
        "a draft worker answers with drafts that fit no round, foreign ones, and each twice",
        "such a round counts as without drafts; after three in a row it is asked no more",
        logs=(("verify", "malformed draft"),),
    ),
    Fault(
        "clock-jump",
        "the wall clock of all processes jumps an hour ahead, later back",
        "timeouts and leases count monotonic time: no error, no other token",
        needs_clock=True,
    ),
)


def choose_faults(names: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults of these names, in the catalogue's order; all without names.

    Raises:
        UsageError: there is no fault of a name; lists those that are.
    """
    known = [fault.name for fault in FAULTS]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--only {unknown[0]}: there is no such drill; use {', '.join(known)}")
    return tuple(fault for fault in FAULTS if not names or fault.name in names)
