"""Draws a replay: every contender's share of O2 by workload, and tokens per second under load.

Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shortstack.bench.control.evaluate import all_figures
from shortstack.bench.control.load_steps import PhasePlay
from shortstack.bench.control.replay_report import ReplayReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[float, float, float, float]
DPI = 150
COLOURS = "tab20"


def plot_replay(report: ReplayReport, file: Path) -> None:
    """Draw the report into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(make_figure(report)).print_figure(file, dpi=DPI)


def make_figure(report: ReplayReport) -> Figure:
    """Return a panel of shares and one of load; a contender has one colour in both."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shares = {
        workload.name: {n: each.share_of_o2 for n, each in all_figures(workload).items()}
        for workload in report.found.workloads()
        if workload not in report.found.wrong_prior.values()
    }
    speeds = _by_phase(report.found.load)
    groups = [*shares.values(), *speeds.values()]
    names = list(dict.fromkeys(name for group in groups for name in group))
    colours = {name: colormaps[COLOURS](index % 20) for index, name in enumerate(names)}
    figure = Figure(figsize=(12, 8), layout="constrained")
    above, below = figure.subplots(2, 1)
    _draw_groups(above, shares, colours, "speed / best static setting in hindsight (O2)")
    above.axhline(1.0, color="black", linewidth=0.8)
    _draw_groups(below, speeds, colours, "tokens per second")
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    conditions = report.conditions
    figure.suptitle(
        f"{conditions.model}, replayed: {conditions.num_tokens} tokens, exits"
        f" {', '.join(map(str, conditions.exits))}; {report.machine.cpu_model}",
        fontsize=11,
        parse_math=False,
    )
    return figure


def _by_phase(load: Mapping[str, Sequence[PhasePlay]]) -> dict[str, dict[str, float]]:
    """Return speeds by phase and contender; phases of one size are told apart by their order."""
    num_phases = len(next(iter(load.values())))
    return {
        f"{index + 1}: {_size(load, index)} sessions": {
            name: phases[index].tok_s for name, phases in load.items()
        }
        for index in range(num_phases)
    }


def _size(load: Mapping[str, Sequence[PhasePlay]], index: int) -> int:
    return next(iter(load.values()))[index].num_sessions


def _draw_groups(
    axes: Axes, groups: Mapping[str, Mapping[str, float]], colours: Mapping[str, Colour], label: str
) -> None:
    """Draw a bar per contender in every group."""
    names = [name for name in colours if any(name in group for group in groups.values())]
    width = 0.85 / len(names)
    for index, name in enumerate(names):
        places = [at + index * width for at, group in enumerate(groups.values()) if name in group]
        heights = [group[name] for group in groups.values() if name in group]
        axes.bar(places, heights, width, color=colours[name])
    axes.set_xticks([at + 0.4 for at in range(len(groups))], list(groups))
    axes.set_ylabel(label)
