"""A live comparison as one value: its JSON and its lines. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from shared.control.replay.step_times import StepTimes
from shared.telemetry.machine import Machine
from shortstack.bench.control.acceptance import Row
from shortstack.bench.control.costs_file import times_to_json
from shortstack.bench.control.fit import Fit
from shortstack.bench.control.live_figures import PLAIN_AGAIN, ArmCheck, LiveKind
from shortstack.bench.control.replay_view import acceptance_lines
from shortstack.bench.report import rounded_values

NS_PER_MS = 1e6


@dataclass(frozen=True)
class LiveReport:
    """Everything. fit, times: None without costs; times as they are between processes."""

    machine: Machine
    model: str
    num_prompts: int
    max_new_tokens: int
    repeats: int
    warm_up_tokens: Mapping[str, int]
    kinds: Sequence[LiveKind]
    checks: Sequence[ArmCheck]
    fit: Fit | None
    times: StepTimes | None
    num_texts: int
    num_mismatches: int
    acceptance: Sequence[Row]

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published, rounded."""
        rows = [asdict(row) | {"is_met": row.is_met} for row in self.acceptance]
        times = times_to_json(self.times) if self.times is not None else None
        values: dict[str, Any] = rounded_values(
            asdict(replace(self, times=None)) | {"times": times, "acceptance": rows}
        )
        return values

    def lines(self) -> Iterator[str]:
        """Say it."""
        for each in self.kinds:
            best = each.best_static
            yield (
                f"{each.kind}: plain {each.tok_s['plain']:.1f} tok/s, best static {best}"
                f" {each.tok_s[best]:.1f}"
            )
            for name, ratio in each.over_best.items():
                yield f"    {name} {each.tok_s[name]:.1f} tok/s, {ratio:.3f} x best static"
            for name in (*each.over_best, PLAIN_AGAIN):
                if name in each.over_plain:
                    yield (
                        f"    {name}: {each.over_plain[name]:.4f} of plain decoding's time, beside"
                        f" moods; > 2 % slower on {each.slower_than_plain[name]:.1%} of the prompts"
                    )
        yield f"{self.num_mismatches} of {self.num_texts} texts differ from plain decoding's"
        if self.fit is not None:
            yield from self._fit_lines(self.fit)
        for check in self.checks:
            yield from self._check_lines(check)
        warmed = ", ".join(f"{name} {num}" for name, num in self.warm_up_tokens.items())
        yield f"tokens decoded to warm up, before anything counted: {warmed or 'none'}"
        yield from ("required of goodput, live", *acceptance_lines(self.acceptance))
        yield (
            f"{self.model}; {self.machine.cpu_model}, {self.machine.num_cores} cores, load"
            f" {self.machine.load_average:.1f} at start"
        )

    def _fit_lines(self, fit: Fit) -> Iterator[str]:
        beside_ms, handed_ms = (ns / NS_PER_MS for ns in (fit.overhead_ns, fit.hand_over_ns))
        yield (
            f"between processes: plain passes {fit.plain_stretch:.2f} times as long, others"
            f" {fit.pass_stretch:.2f} times, draft steps {fit.draft_stretch:.2f} times;"
            f" {beside_ms:.2f} ms of every step beside its pass, a hand-over of {handed_ms:.2f} ms"
        )

    def _check_lines(self, check: ArmCheck) -> Iterator[str]:
        words = []
        if check.predicted_ns:
            words.append(f"round live / replayed {check.live_ns / check.predicted_ns:.3f}")
        if check.num_compared:
            words.append(f"counts differ in {check.num_differing} of {check.num_compared} texts")
        if words:
            yield f"    {check.name}: {', '.join(words)}"
