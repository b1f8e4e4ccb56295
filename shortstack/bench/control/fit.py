"""What steps take between processes beyond what they take in one, told by what was served. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import linear_regression, median

from shared.control.replay.step_times import StepTimes
from shortstack.bench.control.live_rounds import LiveRounds
from shortstack.errors import UsageError

# Lengths of draft phases that hand-over and stretch are told apart by.
MIN_FITTED = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """How much longer steps take between processes.

    overhead_ns: of every step beside its pass; hand_over_ns: of a draft phase; draft_stretch,
    pass_stretch, plain_stretch: how many times as long draft steps, passes that verify drafts and
    plain passes take.
    """

    overhead_ns: float = 0.0
    hand_over_ns: float = 0.0
    draft_stretch: float = 1.0
    pass_stretch: float = 1.0
    plain_stretch: float = 1.0

    def on(self, times: StepTimes) -> StepTimes:
        """Return times as they are between processes, whatever they said of that before."""
        return replace(
            times,
            overhead_ns=self.overhead_ns,
            hand_over_ns=self.hand_over_ns,
            draft_stretch=self.draft_stretch,
            pass_stretch=self.pass_stretch,
            plain_stretch=self.plain_stretch,
        )


def fit_processes(plain: LiveRounds, settings: Sequence[LiveRounds], times: StepTimes) -> Fit:
    """Fit plain decoding and settings that draft, each part of a round by its own.

        plain step    plain_stretch * V(0, 1) + overhead
        round         pass_stretch * V(E, k+1) + overhead + hand-over + draft_stretch * draft steps

    Cells tell what passes took. What rounds take beside them gives hand-over and draft_stretch, by
    least squares over the settings; from fewer than three lengths the hand-over alone.

    Args:
        plain: at least one plain step, no drafts.
        settings: those without drafts are passed over.
        times: in one process; what they say of processes does not count.
    """
    bare = Fit().on(times)
    plain_ns = plain.pass_ns / plain.num_rounds
    # By two clocks: where texts are short a client may see less than the passes took.
    overhead_ns = max(0.0, (plain.decode_ns - plain.pass_ns) / plain.num_rounds)
    points: list[tuple[float, float]] = []
    served_ns, alone_ns = 0.0, 0.0
    for each in settings:
        num_drafts = each.did.num_drafts
        if not num_drafts:
            continue
        phase_ns, pass_ns = each.mean_draft(bare)
        served_ns += each.pass_ns - each.did.num_plain_rounds * plain_ns
        alone_ns += num_drafts * pass_ns
        wait_ns = each.decode_ns - each.pass_ns - each.num_rounds * overhead_ns
        points.append((phase_ns, wait_ns / num_drafts))
    hand_over_ns, draft_stretch = _fit_line(points)
    return Fit(
        overhead_ns=overhead_ns,
        hand_over_ns=hand_over_ns,
        draft_stretch=draft_stretch,
        pass_stretch=max(0.0, served_ns / alone_ns) if alone_ns else 1.0,
        plain_stretch=plain_ns / bare.pass_ns({0: 1}, 1),
    )


def _fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return height and slope of a line, neither below 0; of few points the slope is 1."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < MIN_FITTED:
        return max(0.0, median(y - x for x, y in points)) if points else 0.0, 1.0
    line = linear_regression(xs, ys)
    if line.intercept < 0.0:
        return 0.0, max(0.0, linear_regression(xs, ys, proportional=True).slope)
    return line.intercept, max(0.0, line.slope)


def read_fit(file: Path) -> Fit:
    """Read the fit of a result of `policies-live`.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))["fit"]
        return Fit(**{each.name: float(values[each.name]) for each in fields(Fit)})
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError):
        raise UsageError(
            f"{file} does not tell what steps take between processes; give a result of"
            " `shortstack bench policies-live --measure-costs`"
        ) from None
