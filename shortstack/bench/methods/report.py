"""What the turns of the contenders add up to: JSON, a table, a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from shared.telemetry.machine import Machine
from shortstack.bench.methods.contenders import OFF
from shortstack.bench.methods.searched import Searched
from shortstack.bench.samples import PeerSpeed, Sample, kinds_of, speed_of, total_speculation
from shortstack.checking.compare import Difference, Outcome
from shortstack.errors import UsageError
from shortstack.request import Speculation

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MethodsReport:
    """All that was measured.

    contenders: what was wished for each; samples: theirs, in the order of their turns.
    added_bytes: memory that the stack took more after a contender's first turn, since the one
        before it; None where the system does not tell. added_parameters: weights of its own.
    searched: what the search for skip sets took meanwhile.
    differences: prompts whose tokens were not those of plain decoding.
    """

    model: str
    num_layers: int
    machine: Machine
    conditions: Mapping[str, Any]
    contenders: Mapping[str, Speculation]
    samples: Mapping[str, Sequence[Sample]]
    searched: Searched = field(default_factory=Searched)
    added_bytes: Mapping[str, int | None] = field(default_factory=dict)
    added_parameters: Mapping[str, int] = field(default_factory=dict)
    differences: Sequence[tuple[str, str, Difference]] = ()

    @property
    def num_mismatches(self) -> int:
        """Differences that no near tie explains."""
        return sum(each.outcome is Outcome.MISMATCH for _, _, each in self.differences)

    def speed(self, name: str, kind: str | None = None) -> PeerSpeed | None:
        """Return a contender's speed, over all prompts or those of a kind."""
        return speed_of([each for each in self.samples[name] if kind in (None, each.kind)])

    def ratio(self, name: str, kind: str | None = None) -> float | None:
        """Return how many times faster than plain decoding a contender is."""
        own, plain = self.speed(name, kind), self.speed(OFF, kind)
        return own.decode_tok_s / plain.decode_tok_s if own and plain else None

    def paired_ratios(self, name: str) -> list[float]:
        """Return a contender's speed over that of plain decoding in the same turn, turn by turn.

        The median of these is what the machine's mood moves least.
        """
        pairs = zip(self.samples[name], self.samples[OFF], strict=True)
        return [
            own.decode_tok_s / plain.decode_tok_s
            for own, plain in pairs
            if own.decode_tok_s and plain.decode_tok_s
        ]

    def late_ratio(self, name: str) -> float | None:
        """Return the median ratio of the last half of the turns: what a contender comes to.

        What is learned, searched for and given up at first is behind it by then.
        """
        ratios = self.paired_ratios(name)
        return median(ratios[len(ratios) // 2 :]) if ratios else None

    def kinds(self) -> list[str]:
        """Return the kinds of text."""
        return kinds_of(self.samples[OFF])

    def to_json(self) -> dict[str, Any]:
        """Return all figures; speeds in tokens per second, first token to last."""
        return {
            "model": self.model,
            "num_layers": self.num_layers,
            "conditions": dict(self.conditions),
            "contenders": {name: self._figures(name) for name in self.contenders},
            "skip_set_search": self.searched.to_json(),
            "mismatches": self.num_mismatches,
            "near_ties": len(self.differences) - self.num_mismatches,
            "machine": asdict(self.machine),
        }

    def _figures(self, name: str) -> dict[str, Any]:
        speed, summary = self.speed(name), total_speculation(self.samples[name])
        pairs = self.paired_ratios(name)
        wished = {key: each for key, each in asdict(self.contenders[name]).items() if each}
        return {
            "wished": wished,
            "tok_s": round(speed.decode_tok_s, 2) if speed else None,
            "over_off": _rounded(self.ratio(name)),
            "over_off_in_pairs": _rounded(median(pairs)) if pairs else None,
            "over_off_late": _rounded(self.late_ratio(name)),
            "over_off_by_kind": {kind: _rounded(self.ratio(name, kind)) for kind in self.kinds()},
            "acceptance_rate": _rounded(summary.acceptance_rate),
            "mean_emitted_len": _rounded(summary.mean_emitted_len),
            "num_drafts": summary.num_drafts,
            "num_plain_rounds": summary.num_plain_rounds,
            "added_parameters": self.added_parameters.get(name, 0),
            "added_bytes": self.added_bytes.get(name),
        }


def table_of(report: MethodsReport) -> Table:
    """Return a row per contender, and its ratio to plain decoding by kind of text."""
    table = Table(
        title=f"{report.model}, {report.num_layers} layers",
        caption=_caption(report),
    )
    table.add_column("method", no_wrap=True)
    drafts = ("acceptance", "emitted/round", "weights", "MiB")
    for column in ("tok/s", "over off", "pairs", "late", *report.kinds(), *drafts):
        table.add_column(column, justify="right")
    for name, figures in report.to_json()["contenders"].items():
        added = figures["added_bytes"]
        table.add_row(
            name,
            _shown(figures["tok_s"], 1),
            _shown(figures["over_off"], 2),
            _shown(figures["over_off_in_pairs"], 3),
            _shown(figures["over_off_late"], 3),
            *(_shown(each, 2) for each in figures["over_off_by_kind"].values()),
            _shown(figures["acceptance_rate"] if figures["num_drafts"] else None, 2),
            _shown(figures["mean_emitted_len"] if figures["num_drafts"] else None, 2),
            f"{figures['added_parameters']:,}",
            "-" if added is None else f"{added / MIB:+.0f}",
        )
    return table


def _caption(report: MethodsReport) -> str:
    told = (
        "tokens/s from first token to last, one session through the gateway; ratios to off: of "
        "means, median of turns, and of the last half of them"
    )
    share = report.searched.share
    if share is not None:
        told += f"; skip sets: {report.searched.num_looks} looks, {100 * share:.1f} % of the time"
    return told


def plot(report: MethodsReport, file: Path) -> None:
    """Draw the ratios to plain decoding, a group of bars per kind of text.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--plot needs matplotlib: pip install matplotlib") from None
    names, kinds = [name for name in report.contenders if name != OFF], [None, *report.kinds()]
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(names))
    for index, name in enumerate(names):
        values = [report.ratio(name, kind) or 0.0 for kind in kinds]
        places = [group + index * width for group in range(len(kinds))]
        bars = axes.bar(places, values, width, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)
    axes.axhline(1.0, color="black", linewidth=0.8)
    middle = 0.4 - width / 2
    axes.set_xticks([group + middle for group in range(len(kinds))], ["all", *report.kinds()])
    axes.set_ylabel("times plain decoding")
    axes.set_title(f"{report.model} on {report.machine.cpu_model}", fontsize=9)
    axes.legend(fontsize=8)
    FigureCanvasAgg(figure).print_figure(file, dpi=150)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _shown(value: float | None, num_places: int) -> str:
    return "-" if value is None else f"{value:.{num_places}f}"
