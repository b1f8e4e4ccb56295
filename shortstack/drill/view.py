"""The table of drills, and the list of what there is."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from shortstack.drill.faults import FAULTS
from shortstack.drill.verdict import Drill, DrillReport


def list_of_faults() -> Table:
    """Return every fault with its promise."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("drill", "what is done", "what is promised"):
        table.add_column(column, no_wrap=column == "drill")
    for fault in FAULTS:
        table.add_row(fault.name, fault.what, fault.promise)
    return table


def table_of(report: DrillReport) -> Table:
    """Return what was promised and what happened, drill by drill."""
    conditions = report.conditions
    title = (
        f"{conditions.model}, {conditions.num_cells} cells, {conditions.num_clients} clients, "
        f"seed {conditions.seed}"
    )
    table = Table(title=title, box=SIMPLE_HEAD)
    for column in ("drill", "promised", "happened"):
        table.add_column(column, no_wrap=column == "drill")
    for column in ("requests", "lost", "differ", "leaks", "pause s", "back s"):
        table.add_column(column, justify="right")
    table.add_column("kept")
    for drill in report.drills:
        table.add_row(*_row(drill))
    return table


def _row(drill: Drill) -> tuple[str, ...]:
    fault, tally = drill.strike.fault, drill.tally
    if drill.skipped:
        return (fault.name, fault.promise, f"skipped: {drill.skipped}", *("-",) * 6, "skipped")
    return (
        fault.name,
        fault.promise,
        drill.happened(),
        str(tally.num_requests),
        str(len(tally.lost)),
        str(drill.num_differing),
        str(len(drill.leaks)),
        f"{tally.longest_pause_s:.1f}",
        "never" if drill.recovery_s is None else f"{drill.recovery_s:.1f}",
        "NO" if drill.broken() else "yes",
    )
