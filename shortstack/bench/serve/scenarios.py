"""The scenarios by name: how each is measured, how its report looks."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from shortstack.bench.open_bench import Watcher
from shortstack.bench.serve.next_turn import measure_next_turn, show_next_turn
from shortstack.bench.serve.overload import measure_overload, show_overload
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.prompts_arriving import measure_arriving, show_arriving
from shortstack.bench.serve.soak import measure_soak, show_soak
from shortstack.bench.serve.sweep import measure_sweep
from shortstack.bench.serve.sweep_plot import plot_sweep
from shortstack.bench.serve.sweep_view import show_sweep


class ScenarioName(StrEnum):
    """What can be measured."""

    SWEEP = "sweep"
    PROMPTS_ARRIVING = "prompts-arriving"
    NEXT_TURN = "next-turn"
    OVERLOAD = "overload"
    SOAK = "soak"


class Report(Protocol):
    """What a scenario found."""

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published."""
        ...

    def failures(self) -> list[str]:
        """Return what makes the measurement a failure, a line each."""
        ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario; `show` and `plot` take the report that its own `measure` returned."""

    measure: Callable[[ServePlan, Watcher], Coroutine[Any, Any, Any]]
    show: Callable[[Any, Console], None]
    plot: Callable[[Any, Path], None] | None = None
    has_trace: bool = False


SCENARIOS = {
    ScenarioName.SWEEP: Scenario(measure_sweep, show_sweep, plot_sweep, has_trace=True),
    ScenarioName.PROMPTS_ARRIVING: Scenario(measure_arriving, show_arriving),
    ScenarioName.NEXT_TURN: Scenario(measure_next_turn, show_next_turn),
    ScenarioName.OVERLOAD: Scenario(measure_overload, show_overload),
    ScenarioName.SOAK: Scenario(measure_soak, show_soak),
}
