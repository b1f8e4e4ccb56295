"""How a replay appears on a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from shortstack.bench.control.acceptance import Row
from shortstack.bench.control.evaluate import all_figures
from shortstack.bench.control.load_steps import PHASES, PhasePlay
from shortstack.bench.control.plays import Workload
from shortstack.bench.control.replay_report import ReplayReport, arm_name


def show_replay(report: ReplayReport, console: Console) -> None:
    """Print a table per workload, the load, the acceptance table and the machine."""
    found, conditions, machine = report.found, report.conditions, report.machine
    for workload in found.workloads():
        console.print(_title(workload), soft_wrap=True)
        console.print(workload_table(workload))
    if settled := found.settled():
        words = ", ".join(f"{name} {share:.3f}" for name, share in settled.items())
        line = f"shift, from 100 tokens after it / that segment's O2: {words}"
        console.print(line, soft_wrap=True)
    console.print("\nload: tokens per second of virtual time")
    console.print(load_table(found.load))
    console.print("\nrequired of goodput")
    for line in acceptance_lines(report.rows()):
        console.print(line, soft_wrap=True)
    console.print(
        f"{conditions.model}, {conditions.sampling_class}; {conditions.num_texts} texts,"
        f" {conditions.num_tokens} tokens, joined to {conditions.session_len} or more;"
        f" {conditions.num_near_ties} near ties\n{machine.cpu_model}, {machine.num_cores} cores,"
        f" load {machine.load_average:.1f} at start",
        soft_wrap=True,
    )


def _title(workload: Workload) -> str:
    yardsticks = workload.yardsticks
    plain_ns = sum(yardsticks.plain_ns)
    speeds = ", ".join(
        f"{name} {plain_ns / sum(ns):.3f} x"
        for name, ns in (
            (f"O1 ({arm_name(yardsticks.o1)})", yardsticks.o1_ns),
            ("O2", yardsticks.o2_ns),
            ("O3", yardsticks.o3_ns),
        )
    )
    return f"\n{workload.name}: {len(yardsticks.texts)} sessions; {speeds} plain"


def workload_table(workload: Workload) -> Table:
    """Return a row per contender.

    Speeds over the yardsticks', the last tenth's best over O2, the slowest session over plain,
    sessions slower than plain by > 2 %, time spent on reading exits that did not draft.
    """
    columns = ("/plain", "/O1", "/O2", "p10", "worst", "slower", "shadow")
    table = _table("", *columns)
    for name, each in all_figures(workload).items():
        table.add_row(
            name,
            f"{each.over_plain:.3f}",
            f"{each.over_o1:.3f}",
            f"{each.share_of_o2:.3f}",
            f"{each.share_of_o2_p10:.3f}",
            f"{each.worst_over_plain:.3f}",
            f"{each.num_slower}/{each.num_sessions}",
            f"{each.shadow_share:.1%}",
        )
    return table


def load_table(load: Mapping[str, Sequence[PhasePlay]]) -> Table:
    """Return a row per contender, a column per phase."""
    table = _table("", *(f"{size} sessions" for size in PHASES), "switches/min")
    for name, phases in load.items():
        switches = max(each.switches_per_minute for each in phases)
        table.add_row(name, *(f"{each.tok_s:.1f}" for each in phases), f"{switches:.1f}")
    return table


def acceptance_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line per requirement."""
    lines = []
    for row in rows:
        sign = "<=" if row.is_most else ">="
        verdict = "met" if row.is_met else "MISSED"
        where = f" ({row.where})" if row.where else ""
        lines.append(f"{verdict:>6} {row.found:>7.3g} {sign} {row.bound:<5g} {row.what}{where}")
    return lines


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="underline")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
