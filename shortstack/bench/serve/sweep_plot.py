"""A picture of a sweep: throughput, TTFT and TBT over the load, a line per mode or peer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shortstack.bench.serve.figures import Figures, Spread
from shortstack.bench.serve.sweep_report import SweepReport
from shortstack.bench.serve.turns import LoadKind
from shortstack.errors import UsageError

Value = Callable[[Figures], float | None]
AXES = {
    LoadKind.CLOSED: "clients at a time (closed loop)",
    LoadKind.OPEN: "requests per second (Poisson arrivals)",
}


def plot_sweep(report: SweepReport, file: Path) -> None:
    """Draw a row of three panels per kind of load; p50 as a line, p99 dashed.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from None
    kinds = [kind for kind in LoadKind if report.loads_of_kind(kind)]
    figure = Figure(figsize=(12, 3.6 * len(kinds)), layout="constrained")
    rows = figure.subplots(len(kinds), 3, squeeze=False)
    for kind, (throughput, ttft, tbt) in zip(kinds, rows, strict=True):
        _draw(throughput, report, kind, lambda each: each.tok_s, "-")
        for axes, spread in ((ttft, _ttft), (tbt, _tbt)):
            _draw(axes, report, kind, _at(spread, "p50"), "-")
            _draw(axes, report, kind, _at(spread, "p99"), "--")
            axes.set_yscale("log")
        throughput.set_ylabel("tokens per second")
        ttft.set_ylabel("time to first token, ms (p50, p99 dashed)")
        tbt.set_ylabel("time between messages, ms (p50, p99 dashed)")
        throughput.set_ylim(bottom=0)
        throughput.legend(fontsize=8)
    figure.suptitle(f"{report.conditions.headline}\n{report.machine.cpu_model}", fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(file, dpi=150)


def _draw(axes: Any, report: SweepReport, kind: LoadKind, value: Value, style: str) -> None:
    """Draw a line per sender; equal senders have equal colours."""
    loads = report.loads_of_kind(kind)
    sizes = [load.size for load in loads]
    for index, sender in enumerate(report.senders):
        values = [value(report.figures(load, sender)) for load in loads]
        heights = [float("nan") if height is None else height for height in values]
        label = sender if style == "-" else None
        axes.plot(sizes, heights, style, marker="o", ms=3, color=f"C{index}", label=label)
    axes.set_xlabel(AXES[kind])
    if kind is LoadKind.CLOSED:
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.grid(alpha=0.3)


def _ttft(figures: Figures) -> Spread | None:
    return figures.ttft_ms


def _tbt(figures: Figures) -> Spread | None:
    return figures.tbt_ms


def _at(spread: Callable[[Figures], Spread | None], name: str) -> Value:
    """Return one percentile of a spread."""

    def value(figures: Figures) -> float | None:
        found = spread(figures)
        return None if found is None else float(getattr(found, name))

    return value
