"""How a measurement of decoding looks: tables for a terminal, bars for a picture."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from shortstack.bench.report import DecodeReport, Prediction
from shortstack.bench.samples import Peer, PeerSpeed, ratio, speeds_by_peer
from shortstack.errors import UsageError

LABELS = {
    Peer.PIPELINE: "pipeline (split cell)",
    Peer.FUSED: "fused cell",
    Peer.PLAIN: "plain, in process",
    Peer.PLAIN_GATEWAY: "plain, same gateway",
    Peer.HF: "transformers.generate",
    Peer.HF_EARLY_EXIT: "  with its early exit",
}


def show_report(report: DecodeReport, console: Console) -> None:
    """Print the report."""
    console.print(speed_table(report))
    for line in summary_lines(report):
        console.print(line, highlight=False, soft_wrap=True)


def speed_table(report: DecodeReport) -> Table:
    """Return one row per peer."""
    conditions = report.conditions
    title = (
        f"{conditions.model_dir.name}, {conditions.dtype}, E {conditions.exit_layer}, "
        f"d {conditions.draft_len}, {conditions.num_prompts} prompts x {conditions.repeats}"
    )
    table = Table(title=title, caption="tokens/s; decode is first tokens to last")
    table.add_column("peer", no_wrap=True)
    for column in ("decode", "samples", "end to end", "first token ms", "pipeline is"):
        table.add_column(column, justify="right")
    speeds = speeds_by_peer(report.samples)
    for peer, speed in speeds.items():
        factor = ratio(speeds, peer)
        table.add_row(*_row(peer, speed, None if peer is Peer.PIPELINE else factor))
    return table


def _row(peer: Peer, speed: PeerSpeed, factor: float | None) -> tuple[str, ...]:
    low, high = speed.decode_tok_s_range
    return (
        LABELS[peer],
        f"{speed.decode_tok_s:.1f}",
        f"{low:.0f}-{high:.0f}",
        f"{speed.end_to_end_tok_s:.1f}",
        f"{speed.ttft_ms:.1f}",
        "" if factor is None else f"{factor:.2f}x",
    )


def summary_lines(report: DecodeReport) -> list[str]:
    """Return what does not fit the table."""
    did, machine = report.speculation, report.machine
    lines = [
        f"acceptance rate {did.acceptance_rate:.3f}, "
        f"mean emitted length {did.mean_emitted_len:.2f}",
        f"tokens: {report.num_mismatches} mismatches, {report.num_near_ties} near ties",
    ]
    prediction = report.prediction()
    if not did.num_drafts:
        lines.append("the pipeline made no drafts: its draft worker was not there or not in time")
    if prediction is not None:
        lines.append(_prediction_line(prediction))
    memory = report.memory
    if memory.pss_split_bytes is not None and memory.pss_plain_bytes is not None:
        share = memory.pss_split_bytes / memory.pss_plain_bytes
        lines.append(
            f"memory (PSS): both workers {memory.pss_split_bytes / 2**20:.0f} MiB, plain process "
            f"{memory.pss_plain_bytes / 2**20:.0f} MiB ({share:.2f} x)"
        )
    lines += [f"{name}: {note}" for name, note in report.conditions.notes.items()]
    lines.append(
        f"{machine.cpu_model}, {machine.num_cores} cores, "
        f"{machine.memory_bytes / 2**30:.0f} GiB, load {machine.load_average:.1f} at start"
    )
    return lines


def _prediction_line(prediction: Prediction) -> str:
    return (
        f"cost model: {prediction.speedup:.2f} x plain, a round of {prediction.round_ms:.1f} ms; "
        f"measured round {prediction.measured_round_ms:.1f} ms "
        f"({prediction.overhead_ms:+.1f} ms over it)"
    )


def plot_report(report: DecodeReport, file: Path) -> None:
    """Draw decode speeds as bars.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from None
    speeds = speeds_by_peer(report.samples)
    values = [speed.decode_tok_s for speed in speeds.values()]
    figure = Figure(figsize=(8, 0.6 * len(values) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = ["tab:blue" if peer is Peer.PIPELINE else "tab:gray" for peer in speeds]
    bars = axes.barh([LABELS[peer] for peer in speeds], values, color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("tokens per second, first token to last, one session")
    axes.set_title(f"{report.conditions.model_dir.name} on {report.machine.cpu_model}", fontsize=9)
    axes.margins(x=0.12)
    FigureCanvasAgg(figure).print_figure(file, dpi=150)
