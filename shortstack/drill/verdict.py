"""What was promised against what happened. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.telemetry.machine import Machine
from shortstack.drill.faults import MAX_RECOVERY_S
from shortstack.drill.load import Tally
from shortstack.drill.plan import Strike


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill and what came of it.

    recovery_s: from when every process answered again until the cell drafted; None: it never did.
    num_near_ties: of the answers that differ, those where the two best tokens scored the same.
    missing_logs: what should have been logged, and was not. notes: what else there is to tell.
    skipped: why it could not be run; the rest says nothing then.
    """

    strike: Strike
    num_cells: int
    tally: Tally = field(default_factory=Tally)
    num_near_ties: int = 0
    recovery_s: float | None = None
    leaks: Sequence[str] = ()
    missing_logs: Sequence[str] = ()
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()
    skipped: str = ""

    @property
    def num_differing(self) -> int:
        """Answers, or beginnings of answers, that are not those of plain decoding."""
        return len(self.tally.deviations) - self.num_near_ties

    def broken(self) -> list[str]:
        """Return the promises that were not kept."""
        if self.skipped:
            return []
        fault, tally = self.strike.fault, self.tally
        lines = [f"lost: {each}" for each in tally.lost]
        if self.num_differing:
            lines.append(f"{self.num_differing} answers differ from plain decoding")
        if tally.errors and not fault.errors_allowed(self.num_cells):
            lines.append(f"clients were told to try again: {counted(tally.errors)}")
        if not tally.num_tokens:
            lines.append("no request was answered")
        if self.recovery_s is None:
            lines.append("speculation did not come back")
        elif self.recovery_s > MAX_RECOVERY_S:
            lines.append(f"speculation came back after {self.recovery_s:.1f} s")
        lines += [f"held: {each}" for each in self.leaks]
        lines += [f"never logged: {each}" for each in self.missing_logs]
        return [*lines, *self.failures]

    def happened(self) -> str:
        """Return what happened, in a line."""
        tally = self.tally
        words = []
        if tally.num_replays:
            words.append(f"{tally.num_replays} replays")
        if tally.errors:
            words.append(f"sent again after {counted(tally.errors)}")
        if self.num_near_ties:
            words.append(f"{self.num_near_ties} near ties")
        return "; ".join([*words, *self.notes]) or "nothing that a client saw"

    def to_json(self) -> dict[str, Any]:
        """Return what is published."""
        strike, tally = self.strike, self.tally
        named = {
            "drill": strike.fault.name,
            "what": strike.fault.what,
            "promise": strike.fault.promise,
            "cell_index": strike.cell_index,
            "delay_s": strike.delay_s,
            "hold_s": strike.hold_s,
            "skipped": self.skipped,
        }
        if self.skipped:
            return named
        counts = {
            "requests": tally.num_requests,
            "tokens": tally.num_tokens,
            "accepted_tokens": tally.num_draft_tokens,
            "lost": len(tally.lost),
            "differing": self.num_differing,
            "near_ties": self.num_near_ties,
            "replays": tally.num_replays,
            "sent_again": tally.num_sent_again,
            "errors": dict(tally.errors),
            "longest_pause_s": tally.longest_pause_s,
            "recovery_s": self.recovery_s,
        }
        lists = {"leaks": list(self.leaks), "notes": list(self.notes), "broken": self.broken()}
        return named | counts | lists


def counted(errors: Mapping[str, int]) -> str:
    """Return counts in words."""
    return ", ".join(f"{num} {name}" for name, num in sorted(errors.items()))


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the drills ran on."""

    model: str
    num_cells: int
    num_clients: int
    num_threads: int
    seed: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class DrillReport:
    """All drills of one run."""

    machine: Machine
    conditions: Conditions
    drills: Sequence[Drill]

    def broken(self) -> list[str]:
        """Return all promises that were not kept, with the drill's name."""
        return [
            f"{drill.strike.fault.name}: {line}" for drill in self.drills for line in drill.broken()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return what is published."""
        return {
            "scenario": "drill",
            "conditions": asdict(self.conditions),
            "machine": asdict(self.machine),
            "drills": [drill.to_json() for drill in self.drills],
            "broken": self.broken(),
        }
