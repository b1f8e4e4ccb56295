"""How a look at the exits appears on a terminal."""

from rich.console import Console
from rich.table import Table

from shortstack.exits.advice import advise
from shortstack.exits.outlook import Cell, Outlook
from shortstack.exits.report import ExitsReport

OVERALL = "all"
# Where times lie further from their lines than this, settings are told apart by chance.
MAX_SCATTER = 0.1
# Load average over cores; above, the cores are shared, and the longer parts suffer most.
MAX_LOAD = 0.5
# Columns of draft lengths that fit a terminal, and those that are shown when there are more.
MAX_SHOWN = 8
SHOWN_DRAFT_LENS = (1, 2, 3, 4, 6, 8, 12, 16, 24)


def show_report(report: ExitsReport, console: Console) -> None:
    """Print tables, the machine, and whether it pays."""
    tables = {
        f"Agreement with the last layer, % of {report.overall.num_tokens} tokens": agreement_table,
        "Predicted speed-up over plain decoding, all texts, best threshold each": speedup_table,
        "Best static setting": best_table,
        "Rounds whose first j drafts were all accepted, %, at that setting": survival_table,
    }
    for title, make_table in tables.items():
        console.print(title)
        console.print(make_table(report))
        console.print()
    advice = advise(report.overall, report.by_kind, report.costs, report.conditions.max_draft_len)
    for line in (*machine_lines(report), "", *advice.lines):
        console.print(line, soft_wrap=True)


def _columns(report: ExitsReport) -> dict[str, Outlook]:
    """Return the kinds and all together; with a single kind the two are the same."""
    if len(report.by_kind) == 1:
        return dict(report.by_kind)
    # A kind may be called what all are called.
    overall = OVERALL if OVERALL not in report.by_kind else "all kinds"
    return {**report.by_kind, overall: report.overall}


def agreement_table(report: ExitsReport) -> Table:
    """Return a row per exit: on how many tokens it agrees with the last layer."""
    columns = _columns(report)
    table = _table("E", *columns)
    for exit_layer in report.costs.exits:
        shares = (outlook.agreement[exit_layer] for outlook in columns.values())
        table.add_row(str(exit_layer), *(f"{100 * share:.1f}" for share in shares))
    return table


def speedup_table(report: ExitsReport) -> Table:
    """Return exits down and draft lengths across; a star marks the best."""
    best, cells = report.overall.best, report.overall.best_thresholds
    draft_lens = _shown_draft_lens(report.conditions.max_draft_len, best.setting.draft_len)
    table = _table("E \\ d", *map(str, draft_lens))
    for exit_layer in report.costs.exits:
        row = (cells[exit_layer, draft_len] for draft_len in draft_lens)
        table.add_row(str(exit_layer), *(_speedup(cell, best) for cell in row))
    return table


def _shown_draft_lens(max_draft_len: int, best: int) -> list[int]:
    """Return as many draft lengths as a terminal is wide, the best among them."""
    draft_lens = range(1, max_draft_len + 1)
    if max_draft_len <= MAX_SHOWN:
        return list(draft_lens)
    return [each for each in draft_lens if each in SHOWN_DRAFT_LENS or each == best]


def _speedup(cell: Cell, best: Cell) -> str:
    return f"{cell.predicted_speedup:.2f}" + ("*" if cell is best else " ")


def best_table(report: ExitsReport) -> Table:
    """Return the best setting of every kind, and what the one best for all would give it."""
    common = report.overall.best.setting
    table = _table(
        "", "E, d, stop", "speed-up", "tokens/\nround", "drafts/\nround", "kept", "at all's\nbest"
    )
    for kind, outlook in _columns(report).items():
        best, setting = outlook.best, outlook.best.setting
        table.add_row(
            kind,
            f"{setting.exit_layer}, {setting.draft_len}, {setting.stop_threshold:g}",
            f"{best.predicted_speedup:.2f} x",
            f"{best.replay.summary.mean_emitted_len:.2f}",
            f"{best.mean_draft_len:.2f}",
            f"{best.replay.summary.acceptance_rate:.0%}",
            f"{outlook.cell_of(common).predicted_speedup:.2f} x",
        )
    return table


def survival_table(report: ExitsReport) -> Table:
    """Return, per kind, the share of rounds whose first j drafts were all kept."""
    columns = _columns(report)
    longest = max(outlook.best.setting.draft_len for outlook in columns.values())
    table = _table("j", *(str(position) for position in range(1, longest + 1)))
    for kind, outlook in columns.items():
        table.add_row(kind, *(f"{100 * share:.0f}" for share in outlook.survival()))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def machine_lines(report: ExitsReport) -> list[str]:
    """Say on what, and how surely."""
    machine, conditions = report.machine, report.conditions
    threads = conditions.num_threads or "as each pass is worth"
    lines = [
        f"{conditions.model_dir.name}, {conditions.dtype}, prompts: {conditions.num_prompts},"
        f" threads: {threads}; a plain step {report.costs.plain_step_ns / 1e6:.2f}"
        f" ms, hand-over {conditions.hand_over_ms:g} ms a round; plain decoding ran at"
        f" {report.plain_tok_s:.1f} tokens/s",
        f"{machine.cpu_model}, {machine.num_cores} cores, load {machine.load_average:.1f} at start",
    ]
    is_busy = machine.load_average > MAX_LOAD * machine.num_cores
    if is_busy or report.cost_scatter > MAX_SCATTER:
        lines.append(
            f"the machine was busy (times scatter by {report.cost_scatter:.0%}): agreement holds,"
            " but repeat this on an idle machine before relying on a speed-up"
        )
    if report.num_near_ties:
        lines.append(
            f"{report.num_near_ties} near ties: places where sums in another order chose otherwise"
        )
    return lines
