"""What a sweep found, as one value, and its JSON. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.telemetry.machine import Machine
from shortstack.bench.serve.checks import Check, Found
from shortstack.bench.serve.conditions import Conditions, published
from shortstack.bench.serve.figures import Figures, median_figures
from shortstack.bench.serve.modes import OFF_MODE
from shortstack.bench.serve.plan import PeerName
from shortstack.bench.serve.turns import Load, LoadKind, Turn

# Whom the others are set against, as far as they were measured.
REFERENCES = (OFF_MODE.name, *(peer.value for peer in PeerName))


@dataclass(frozen=True, slots=True)
class SweepReport:
    """A whole sweep."""

    machine: Machine
    conditions: Conditions
    turns: Sequence[Turn]
    checks: Mapping[str, Check]
    found: Sequence[Found]

    @property
    def loads(self) -> list[Load]:
        """The loads, in the order they were run in."""
        return list(dict.fromkeys(turn.load for turn in self.turns))

    @property
    def senders(self) -> list[str]:
        """Modes, then peers."""
        return list(self.checks)

    @property
    def references(self) -> list[str]:
        """Senders that others are set against."""
        return [name for name in REFERENCES if name in self.checks]

    def loads_of_kind(self, kind: LoadKind) -> list[Load]:
        """Return the loads of one kind."""
        return [load for load in self.loads if load.kind is kind]

    def figures(self, load: Load, sender: str) -> Figures:
        """Return the median over repeats."""
        return median_figures(
            [turn.figures for turn in self.turns if (turn.load, turn.sender) == (load, sender)]
        )

    def ratio(self, load: Load, sender: str, reference: str) -> float | None:
        """Return how many times the throughput of the reference a sender had; None for 0."""
        other = self.figures(load, reference).tok_s
        return self.figures(load, sender).tok_s / other if other else None

    def failures(self) -> list[str]:
        """Return what makes the measurement a failure, a line each."""
        lines = [
            f"{name}: {check.num_mismatches} of {check.num_compared} answers differ"
            for name, check in self.checks.items()
            if check.num_mismatches
        ]
        for turn in self.turns:
            if turn.figures.num_failed:
                errors = {result.error for result in turn.results if result.error}
                count = f"{turn.figures.num_failed} requests lost"
                lines.append(f"{turn.load}, {turn.sender}: {count}: {'; '.join(sorted(errors))}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published."""
        points = [self._point(load, sender) for load in self.loads for sender in self.senders]
        values = {
            "points": points,
            "checks": {name: asdict(check) for name, check in self.checks.items()},
            "mismatches": sum(check.num_mismatches for check in self.checks.values()),
            "near_ties": sum(check.num_near_ties for check in self.checks.values()),
        }
        return published("sweep", self.conditions, self.machine, values)

    def _point(self, load: Load, sender: str) -> dict[str, Any]:
        own = [turn for turn in self.turns if (turn.load, turn.sender) == (load, sender)]
        ratios = {name: self.ratio(load, sender, name) for name in self.references}
        return {
            "load": load.kind.value,
            "size": load.size,
            "sender": sender,
            "median": asdict(self.figures(load, sender)),
            "tok_s_by_repeat": [turn.figures.tok_s for turn in own],
            "tok_s_over": ratios,
        }

    def trace(self) -> list[dict[str, Any]]:
        """Return one record per request."""
        return [record for turn in self.turns for record in turn.trace()]
