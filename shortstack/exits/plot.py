"""Draws what was found: a heat-map of predicted speed-ups per kind of text, and agreement by exit.

Colours mean the same in all maps: white is plain decoding, blue is faster, red as much slower; the
best setting of a map wears a frame. Needs matplotlib, which is imported when something is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from shortstack.exits.outlook import Outlook
from shortstack.exits.report import ExitsReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

MAX_COLUMNS = 3
MAX_INCHES = 20
CELL_INCHES = (0.42, 0.24)
MIN_PANEL_INCHES = (3.6, 2.8)
COLOURS = "RdBu"
# The scale reaches at least from 1 / this to this.
MIN_REACH = 1.1
SCALE_TICKS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
# Cells this far along the scale are so dark that numbers on them are white.
DARK_SHARE = 0.62
DPI = 150


def plot_report(report: ExitsReport, file: Path) -> None:
    """Draw the report into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(make_figure(report)).print_figure(file, dpi=DPI)


def make_figure(report: ExitsReport) -> Figure:
    """Return a panel per kind of text, one for all, and the curves."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    maps = _maps(report)
    num_panels = len(maps) + 1
    width, height = _panel_inches(report)
    num_rows = -(-num_panels // max(1, min(MAX_COLUMNS, int(MAX_INCHES / width))))
    # As few empty places as there can be.
    num_columns = -(-num_panels // num_rows)
    figure = Figure(
        figsize=(width * num_columns + 1.0, height * num_rows + 0.7), layout="constrained"
    )
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    norm = _norm(maps)
    for panel, (name, outlook) in zip(panels, maps, strict=False):
        _draw_map(panel, name, outlook, norm)
    _draw_agreement(panels[len(maps)], report)
    for panel in panels[num_panels:]:
        panel.set_axis_off()
    _draw_scale(figure, panels, ScalarMappable(norm, COLOURS))
    figure.suptitle(_title(report), fontsize=11, parse_math=False)
    return figure


def _draw_scale(figure: Figure, panels: list[Axes], colours: ScalarMappable) -> None:
    """Draw what the colours mean, once for all maps."""
    low, high = colours.get_clim()
    ticks = [tick for tick in SCALE_TICKS if low <= tick <= high]
    bar = figure.colorbar(colours, ax=panels, aspect=40, pad=0.01, ticks=ticks, format="%g")
    bar.minorticks_off()
    bar.set_label("predicted speed-up over plain decoding")


def _maps(report: ExitsReport) -> list[tuple[str, Outlook]]:
    """Return what gets a map: all texts first; a single kind is all there is."""
    if len(report.by_kind) == 1:
        return list(report.by_kind.items())
    return [("all texts", report.overall), *report.by_kind.items()]


def _panel_inches(report: ExitsReport) -> tuple[float, float]:
    """Return a size in which the numbers of every cell can be read."""
    width = CELL_INCHES[0] * report.conditions.max_draft_len + 0.9
    height = CELL_INCHES[1] * len(report.costs.exits) + 0.9
    return max(width, MIN_PANEL_INCHES[0]), max(height, MIN_PANEL_INCHES[1])


def _title(report: ExitsReport) -> str:
    conditions, machine = report.conditions, report.machine
    return (
        f"{conditions.model_dir.name}: early exits, {report.overall.num_tokens} tokens of its own"
        f" text\n{machine.cpu_model}, {machine.num_cores} cores, {conditions.dtype},"
        f" hand-over {conditions.hand_over_ms:g} ms a round"
    )


def _norm(maps: list[tuple[str, Outlook]]) -> LogNorm:
    """Return one scale for all maps, with 1 in its middle: half and double are equally dark."""
    from matplotlib.colors import LogNorm

    values = [cell.predicted_speedup for _, each in maps for cell in each.best_thresholds.values()]
    reach = max(*values, 1 / min(values), MIN_REACH)
    return LogNorm(1 / reach, reach)


def _draw_map(panel: Axes, name: str, outlook: Outlook, norm: LogNorm) -> None:
    """Draw one map: draft lengths across, exits upwards, the best threshold in every cell."""
    cells = outlook.best_thresholds
    exits = sorted({exit_layer for exit_layer, _ in cells})
    draft_lens = sorted({draft_len for _, draft_len in cells})
    values = [[cells[e, d].predicted_speedup for d in draft_lens] for e in exits]
    panel.imshow(values, cmap=COLOURS, norm=norm, aspect="auto", origin="lower")
    for row, speedups in enumerate(values):
        for column, speedup in enumerate(speedups):
            colour = "white" if abs(norm(speedup) - 0.5) * 2 > DARK_SHARE else "black"
            panel.text(
                column, row, f"{speedup:.2f}", ha="center", va="center", fontsize=7, color=colour
            )
    best = outlook.best.setting
    _frame(panel, draft_lens.index(best.draft_len), exits.index(best.exit_layer))
    panel.set_xticks(range(len(draft_lens)), [str(d) for d in draft_lens])
    panel.set_yticks(range(len(exits)), [str(e) for e in exits])
    panel.tick_params(length=0, labelsize=8)
    panel.set_xlabel("most drafts per round, d", fontsize=8)
    panel.set_ylabel("exit layer E", fontsize=8)
    title = (
        f"{name}: {outlook.best.predicted_speedup:.2f} x at E {best.exit_layer},"
        f" d {best.draft_len}, threshold {best.stop_threshold:g}"
    )
    panel.set_title(title, fontsize=9, parse_math=False)


def _frame(panel: Axes, column: int, row: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    frame = Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=2.2, clip_on=False)
    panel.add_patch(frame)


def _draw_agreement(panel: Axes, report: ExitsReport) -> None:
    """Draw how often every exit agrees with the last layer, a curve per kind."""
    from matplotlib.ticker import MaxNLocator

    num_layers = report.conditions.num_layers
    for kind, outlook in report.by_kind.items():
        exits, shares = zip(*sorted(outlook.agreement.items()), strict=True)
        percents = [100 * share for share in shares]
        # The last layer agrees with itself.
        panel.plot([*exits, num_layers], [*percents, 100], marker="o", markersize=3, label=kind)
    panel.set_ylim(0, 104)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("exit layer E", fontsize=8)
    panel.set_ylabel("% of tokens", fontsize=8)
    panel.set_title("agreement with the last layer", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    for text in panel.legend(fontsize=8, frameon=False, loc="best").get_texts():
        text.set_parse_math(False)
