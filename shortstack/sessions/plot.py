"""Draws one session's rounds: exit layer, draft lengths and acceptance, one above the other.

A colour is a method; plain rounds lie on a ground whose colour is their reason, the same in every
picture; a change alarm is a line through all panels. Needs matplotlib, which is imported when
something is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shortstack.sessions.timeline import MEMORY_ROUNDS, smoothed_acceptance, stretches
from shortstack.sessions.values import Round, SessionState, SessionTimeline

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (11.5, 6.2)
DPI = 150
METHOD_COLOURS = ("#2b6cb0", "#b7791f", "#2f855a", "#805ad5", "#b83280", "#4a5568")
GROUND_COLOURS = {
    "policy": "#cbd5e0",
    "pinned": "#a0aec0",
    "limit": "#d9c2a7",
    "no_pages": "#b08968",
    "probe": "#faf089",
    "cold": "#90cdf4",
    "unprofitable": "#feb2b2",
    "shed": "#f6ad55",
    "arbiter": "#d6bcfa",
    "prompts": "#bee3f8",
    "guard": "#9ae6b4",
    "no_costs": "#81e6d9",
    "no_draft_worker": "#718096",
    "stream_off": "#ecc94b",
    "killed": "#4a5568",
}
UNKNOWN_COLOUR = "#f687b3"
ALARM_COLOUR = "#c53030"
GROUND_ALPHA = 0.5
DRAFTED_ALPHA = 0.35
NUM_POSITION_TICKS = 9
SMALL = 8


def plot_timeline(timeline: SessionTimeline, file: Path) -> None:
    """Draw a session that has rounds into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(make_figure(timeline)).print_figure(file, dpi=DPI)


def make_figure(timeline: SessionTimeline) -> Figure:
    """Return three panels over the same rounds, and a legend beside them."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rounds = timeline.rounds
    figure = Figure(figsize=INCHES, layout="constrained")
    panels: list[Axes] = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 3))
    exits, lengths, acceptance = panels
    colours = _method_colours(rounds)
    _draw_exits(exits, rounds, colours)
    _draw_lengths(lengths, rounds, colours)
    _draw_acceptance(acceptance, rounds)
    for panel in panels:
        _draw_ground(panel, rounds)
        panel.tick_params(labelsize=SMALL)
        panel.spines[["top", "right"]].set_visible(False)
    acceptance.xaxis.set_major_locator(MaxNLocator(integer=True))
    acceptance.set_xlabel("round", fontsize=SMALL)
    acceptance.set_xlim(rounds[0].round_index - 1, rounds[-1].round_index + 1)
    _draw_positions(exits, rounds)
    legend = figure.legend(
        handles=_legend(rounds, colours), loc="outside right upper", fontsize=SMALL, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.suptitle(_title(timeline.session), fontsize=10, parse_math=False)
    return figure


def _method_colours(rounds: Sequence[Round]) -> dict[str, str]:
    """Return a colour for each method that drafted."""
    names = sorted({each.method for each in rounds if not each.is_plain})
    return {name: METHOD_COLOURS[i % len(METHOD_COLOURS)] for i, name in enumerate(names)}


def _draw_exits(panel: Axes, rounds: Sequence[Round], colours: dict[str, str]) -> None:
    """Draw a mark per round with a draft, at its exit layer."""
    from matplotlib.ticker import MaxNLocator

    for method, colour in colours.items():
        own = [each for each in rounds if each.method == method and not each.is_plain]
        panel.plot(
            [each.round_index for each in own],
            [each.exit_layer for each in own],
            linestyle="none",
            marker="s",
            markersize=3,
            color=colour,
        )
    highest = max((each.exit_layer for each in rounds), default=0)
    panel.set_ylim(0, highest + 1)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel("exit layer E", fontsize=SMALL)
    panel.grid(axis="y", alpha=0.3)


def _draw_lengths(panel: Axes, rounds: Sequence[Round], colours: dict[str, str]) -> None:
    """Draw a bar per round: pale what was drafted, full what was kept; a line at the most."""
    from matplotlib.ticker import MaxNLocator

    for method, colour in colours.items():
        own = [each for each in rounds if each.method == method and not each.is_plain]
        places = [each.round_index for each in own]
        panel.bar(
            places,
            [each.draft_len for each in own],
            width=1.0,
            color=colour,
            alpha=DRAFTED_ALPHA,
            linewidth=0,
        )
        panel.bar(places, [each.num_accepted for each in own], width=1.0, color=colour, linewidth=0)
    panel.step(
        [each.round_index for each in rounds],
        [each.max_draft_len for each in rounds],
        where="mid",
        color="black",
        linewidth=0.8,
    )
    panel.set_ylim(0, max((each.max_draft_len for each in rounds), default=0) + 1)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel("drafts", fontsize=SMALL)


def _draw_acceptance(panel: Axes, rounds: Sequence[Round]) -> None:
    """Draw each round's share of drafts kept as a dot, and the smoothed share as a line."""
    drafted = [each for each in rounds if not each.is_plain]
    panel.plot(
        [each.round_index for each in drafted],
        [each.num_accepted / each.draft_len for each in drafted],
        linestyle="none",
        marker=".",
        markersize=3,
        color="grey",
        alpha=0.5,
    )
    shares = [float("nan") if each is None else each for each in smoothed_acceptance(rounds)]
    # A lone round with a draft between plain ones is no line.
    panel.plot(
        [each.round_index for each in rounds],
        shares,
        color="black",
        linewidth=1.4,
        marker=".",
        markersize=2,
    )
    panel.set_ylim(-0.04, 1.04)
    panel.set_ylabel("drafts accepted, share", fontsize=SMALL)
    panel.grid(axis="y", alpha=0.3)


def _draw_ground(panel: Axes, rounds: Sequence[Round]) -> None:
    """Colour the ground of plain rounds by their reason, and draw the alarms."""
    for stretch in stretches(rounds):
        if stretch.first.is_plain:
            panel.axvspan(
                stretch.first.round_index - 0.5,
                stretch.last.round_index + 0.5,
                color=_ground_colour(stretch.first.reason),
                alpha=GROUND_ALPHA,
                linewidth=0,
                zorder=0,
            )
    for each in rounds:
        if each.is_alarm:
            panel.axvline(each.round_index, color=ALARM_COLOUR, linewidth=1.0, linestyle="--")


def _ground_colour(reason: str) -> str:
    return GROUND_COLOURS.get(reason, UNKNOWN_COLOUR)


def _draw_positions(panel: Axes, rounds: Sequence[Round]) -> None:
    """Label some rounds above the panels with the positions they emitted at."""
    step = max(1, -(-len(rounds) // NUM_POSITION_TICKS))
    shown = rounds[::step]
    axis = panel.secondary_xaxis("top")
    axis.set_xticks([each.round_index for each in shown], [str(each.position) for each in shown])
    axis.tick_params(labelsize=SMALL)
    axis.set_xlabel("position", fontsize=SMALL)
    axis.spines[["top"]].set_visible(False)


def _legend(rounds: Sequence[Round], colours: dict[str, str]) -> list[Artist]:
    """Return what explains each colour and line that occurs."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = []
    for method, colour in colours.items():
        handles.append(Patch(color=colour, label=f"{method}: kept"))
        handles.append(Patch(color=colour, alpha=DRAFTED_ALPHA, label=f"{method}: drafted"))
    handles.append(Line2D([], [], color="black", linewidth=0.8, label="most drafts, d"))
    if colours:
        label = f"accepted, over {MEMORY_ROUNDS} rounds"
        handles.append(Line2D([], [], color="black", linewidth=1.4, label=label))
        dot = Line2D([], [], linestyle="none", marker=".", color="grey", label="accepted, a round")
        handles.append(dot)
    for reason in dict.fromkeys(each.reason for each in rounds if each.is_plain):
        ground = _ground_colour(reason)
        handles.append(Patch(color=ground, alpha=GROUND_ALPHA, label=f"plain: {reason}"))
    if any(each.is_alarm for each in rounds):
        alarm = Line2D([], [], color=ALARM_COLOUR, linestyle="--", linewidth=1.0)
        alarm.set_label("change alarm")
        handles.append(alarm)
    return handles


def _title(state: SessionState) -> str:
    num_drafts = state.num_rounds - state.num_plain_rounds
    parts = [f"policy {state.policy}", f"{num_drafts} rounds with a draft"]
    parts.append(f"{state.num_plain_rounds} plain")
    if state.acceptance_rate is not None:
        parts.append(f"acceptance {state.acceptance_rate:.2f}")
        parts.append(f"{state.mean_emitted_len:.2f} tokens per round with a draft")
    return f"session {state.session_id} on {state.cell_id}\n{', '.join(parts)}"
