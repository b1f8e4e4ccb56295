"""How a sweep looks on a terminal: a table per kind of load, then what does not fit."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shortstack.bench.serve.checks import MAX_SHOWN
from shortstack.bench.serve.conditions import machine_line
from shortstack.bench.serve.figures import Figures, Spread
from shortstack.bench.serve.sweep_report import SweepReport
from shortstack.bench.serve.turns import Load, LoadKind

SIZES = {LoadKind.CLOSED: "clients", LoadKind.OPEN: "req/s"}
TITLES = {
    LoadKind.CLOSED: "closed loop: every client sends when its last request has ended",
    LoadKind.OPEN: "open loop: Poisson arrivals",
}
CAPTION = (
    "tok/s over the window in which the load stands (~: it never did); TTFT, TBT p50/p95/p99 ms, "
    "TBT between messages, median per token in brackets; queue p50 ms, as the server tells it; "
    "most pages in use; requests done+refused+lost"
)


def show_sweep(report: SweepReport, console: Console) -> None:
    """Print the report."""
    headline = f"{report.conditions.headline}, {report.conditions.repeats} repeats"
    console.print(headline, highlight=False, soft_wrap=True)
    for kind in LoadKind:
        if loads := report.loads_of_kind(kind):
            console.print(load_table(report, kind, loads))
    for line in summary_lines(report):
        console.print(line, highlight=False, soft_wrap=True)


def load_table(report: SweepReport, kind: LoadKind, loads: list[Load]) -> Table:
    """Return one row per load and sender."""
    table = Table(title=TITLES[kind], caption=CAPTION, box=SIMPLE_HEAD)
    table.add_column(SIZES[kind], justify="right", no_wrap=True)
    table.add_column("mode or peer", no_wrap=True)
    table.add_column("tok/s", justify="right", no_wrap=True)
    for reference in report.references:
        table.add_column(f"x {reference}".replace("-", "-\n"), justify="right", no_wrap=True)
    for column in ("TTFT", "TBT", "queue", "accept", "pages", "requests"):
        table.add_column(column, justify="right", no_wrap=True)
    for load in loads:
        for sender in report.senders:
            table.add_row(*_row(report, load, sender), end_section=sender == report.senders[-1])
    return table


def _row(report: SweepReport, load: Load, sender: str) -> list[str]:
    figures = report.figures(load, sender)
    ratios = [report.ratio(load, sender, reference) for reference in report.references]
    return [
        f"{load.size:g}" if sender == report.senders[0] else "",
        sender,
        f"{'' if figures.is_steady else '~'}{figures.tok_s:.1f}",
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
        spread_text(figures.ttft_ms),
        tbt_text(figures),
        "-" if figures.queue_ms is None else f"{figures.queue_ms.p50:.0f}",
        "-" if figures.acceptance_rate is None else f"{figures.acceptance_rate:.2f}",
        pages_text(figures),
        requests_text(figures),
    ]


def spread_text(spread: Spread | None) -> str:
    """Return the percentiles."""
    return "-" if spread is None else f"{spread.p50:.0f}/{spread.p95:.0f}/{spread.p99:.0f}"


def tbt_text(figures: Figures) -> str:
    """Return the time between messages, and its share of a token."""
    token = figures.tbt_token_ms
    return spread_text(figures.tbt_ms) + ("" if token is None else f" ({token.p50:.0f})")


def pages_text(figures: Figures) -> str:
    """Return the most pages in use, of how many."""
    has_pages = figures.peak_pages is not None
    return f"{figures.peak_pages}/{figures.num_pages}" if has_pages else "-"


def requests_text(figures: Figures) -> str:
    """Return requests by outcome; refusals that were retried in brackets."""
    retried = f" ({figures.num_refusals} retried)" if figures.num_refusals else ""
    return f"{figures.num_done}+{figures.num_refused}+{figures.num_failed}{retried}"


def summary_lines(report: SweepReport) -> list[str]:
    """Return what does not fit the tables."""
    lines = []
    for name, check in report.checks.items():
        lines.append(
            f"{name}: {check.num_compared} answers compared with plain decoding, "
            f"{check.num_mismatches} mismatches, {check.num_near_ties} near ties"
        )
    lines += [str(found) for found in report.found[:MAX_SHOWN]]
    conditions = report.conditions
    lines += [f"{name}: {note}" for name, note in conditions.notes.items()]
    lines += [f"{name} does not run here: {reason}" for name, reason in conditions.missing.items()]
    lines.append(machine_line(report.machine))
    return lines
