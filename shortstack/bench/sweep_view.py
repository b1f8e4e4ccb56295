"""How a sweep looks on a terminal."""

from rich.console import Console
from rich.table import Table

from shortstack.bench.sweep import SweepPoint, SweepReport

NUM_SHOWN = 5


def show_sweep(report: SweepReport, console: Console) -> None:
    """Print the fastest settings of every kind of prompt, the best first."""
    for kind, plain_tok_s in report.plain_tok_s.items():
        own = [point for point in report.points if point.kind == kind]
        own.sort(key=lambda point: point.decode_tok_s, reverse=True)
        console.print(sweep_table(kind, plain_tok_s, own[:NUM_SHOWN]))
    console.print(f"{report.model_name} on {report.machine.cpu_model}", highlight=False)


def sweep_table(kind: str, plain_tok_s: float, points: list[SweepPoint]) -> Table:
    """Return a row per setting."""
    table = Table(title=f"{kind}: plain through the gateway {plain_tok_s:.1f} tok/s")
    for column in ("E", "d", "threshold", "tok/s", "speed-up", "acceptance", "emitted"):
        table.add_column(column, justify="right")
    for point in points:
        setting = point.setting
        table.add_row(
            str(setting.exit_layer),
            str(setting.draft_len),
            f"{setting.stop_threshold:g}",
            f"{point.decode_tok_s:.1f}",
            f"{point.speedup:.2f} x",
            f"{point.acceptance_rate:.3f}",
            f"{point.mean_emitted_len:.2f}",
        )
    return table
