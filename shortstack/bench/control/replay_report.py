"""What a replay found, as one value, and its JSON. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared.speculation.vocabulary import Decision
from shared.telemetry.machine import Machine
from shortstack.bench.control.acceptance import Row, judge
from shortstack.bench.control.costs_file import times_to_json
from shortstack.bench.control.evaluate import Evaluation, all_figures
from shortstack.bench.control.load_steps import PhasePlay, percentile
from shortstack.bench.control.plays import Workload
from shortstack.bench.report import rounded_values


@dataclass(frozen=True, slots=True)
class ReplayConditions:
    """What was replayed, and on which costs."""

    model: str
    fingerprint: str
    sampling_class: str
    exits: tuple[int, ...]
    num_texts: int
    num_tokens: int
    session_len: int
    num_near_ties: int


@dataclass(frozen=True)
class ReplayReport:
    """Everything. machine: where the costs were measured, or where the replay ran if given."""

    machine: Machine
    conditions: ReplayConditions
    found: Evaluation

    def rows(self) -> list[Row]:
        """Return the acceptance table."""
        return judge(self.found)

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published, rounded."""
        values: dict[str, Any] = rounded_values(
            {
                "machine": asdict(self.machine),
                "conditions": asdict(self.conditions),
                "acceptance": [asdict(row) | {"is_met": row.is_met} for row in self.rows()],
                "stationary": {k: _workload(each) for k, each in self.found.stationary.items()},
                "in_turn": _workload(self.found.in_turn),
                "wrong_prior": {k: _workload(each) for k, each in self.found.wrong_prior.items()},
                "shift": _shift(self.found),
                "load": {name: _phases(each) for name, each in self.found.load.items()},
                "times": times_to_json(self.found.setup.times),
            }
        )
        return values


def arm_name(arm: Decision) -> str:
    """Name a static setting."""
    return "off" if arm.is_off else f"E{arm.exit_layer} d{arm.max_draft_len}"


def _workload(workload: Workload) -> dict[str, Any]:
    yardsticks = workload.yardsticks
    plain_ns = sum(yardsticks.plain_ns)
    return {
        "o1": arm_name(yardsticks.o1),
        "o1_over_plain": plain_ns / sum(yardsticks.o1_ns),
        "o2_over_plain": plain_ns / sum(yardsticks.o2_ns),
        "o3_over_plain": plain_ns / sum(yardsticks.o3_ns),
        "contenders": {name: asdict(each) for name, each in all_figures(workload).items()},
    }


def _shift(found: Evaluation) -> dict[str, Any] | None:
    if found.shift is None:
        return None
    return _workload(found.shift) | {"settled_share_of_o2": found.settled()}


def _phases(phases: Sequence[PhasePlay]) -> list[dict[str, Any]]:
    return [
        {
            "sessions": each.num_sessions,
            "tok_s": each.tok_s,
            "switches_per_minute": each.switches_per_minute,
            "decide_us_p50": percentile(each.decide_us, 0.5),
            "decide_us_p99": percentile(each.decide_us, 0.99),
            "decide_wall_us_p99": percentile(each.decide_wall_us, 0.99),
        }
        for each in phases
    ]
