"""What a round costs and when it pays: measured times in, predicted speed-up out.

Pure arithmetic over one session: no clock, no tensors, no policy. Times are measured on the machine
at hand, never taken from layer counts; `in_layer_units` exists to compare with published tables.

    plain token   T_off      = V(0, 1)
    round         T_round(k) = k * D(E) + F(E) + V(E, k + 1) + H
    speed-up                 = tau * T_off / T_round

    D(E)     draft step: layers [0, E), norm, head, choice, on one row
    F(E)     closing step: layers [0, E) on the last draft, without the head
    V(E, n)  verify pass: layers [E, L), norm, head, choice, on n rows
    H        hand-over: the two messages of a round, and what is not computing
    tau      mean emitted length; with independent acceptance a: (1 - a^(k+1)) / (1 - a)
             (Leviathan et al. 2023, arXiv:2211.17192; resuming at E: Elhoushi et al. 2024,
             arXiv:2404.16710)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NUM_BISECTIONS = 20


@dataclass(frozen=True, slots=True)
class CostTable:
    """Measured times of one session, in nanoseconds.

    draft_step_ns and closing_step_ns by exit layer; verify_ns by (resume layer, rows).
    """

    draft_step_ns: Mapping[int, float]
    closing_step_ns: Mapping[int, float]
    verify_ns: Mapping[tuple[int, int], float]
    plain_step_ns: float
    hand_over_ns: float = 0.0

    @property
    def exits(self) -> tuple[int, ...]:
        """Exit layers that were measured, shallow first."""
        return tuple(sorted(self.draft_step_ns))

    def head_ns(self, exit_layer: int) -> float:
        """Return what norm, head and choice add to the layers of a draft step."""
        return self.draft_step_ns[exit_layer] - self.closing_step_ns[exit_layer]

    def verify_pass_ns(self, resume_layer: int, num_rows: float) -> float:
        """Return V(E, n), linear between measured row counts and beyond the last of them.

        Raises:
            KeyError: nothing was measured for this resume layer.
        """
        points = sorted(
            (n, ns) for (layer, n), ns in self.verify_ns.items() if layer == resume_layer
        )
        if not points:
            raise KeyError(resume_layer)
        return _interpolate(points, num_rows)


@dataclass(frozen=True, slots=True)
class Setting:
    """A static choice and what it is predicted to bring; draft_len 0 is off."""

    exit_layer: int
    draft_len: int
    predicted_speedup: float


OFF_SETTING = Setting(0, 0, 1.0)


def _interpolate(points: list[tuple[int, float]], at: float) -> float:
    """Return the value at `at`: linear, flat below the points, never falling beyond them."""
    if at <= points[0][0] or len(points) == 1:
        return points[0][1]
    upper = next((i for i, (x, _) in enumerate(points) if x >= at), len(points) - 1)
    (x0, y0), (x1, y1) = points[upper - 1], points[upper]
    slope = (y1 - y0) / (x1 - x0)
    if at > x1:
        slope = max(slope, 0.0)
        return y1 + slope * (at - x1)
    return y0 + slope * (at - x0)


def expected_tokens(acceptance: float, draft_len: int) -> float:
    """Return tau for independent acceptance of each draft: 1 + a + a^2 + ... + a^k.

    Raises:
        ValueError: the acceptance is no probability, or the draft length is negative.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance must lie in [0, 1], not {acceptance}")
    if draft_len < 0:
        raise ValueError(f"draft length must not be negative, not {draft_len}")
    return sum(acceptance**power for power in range(draft_len + 1))


def emitted_len(acceptance_rate: float, draft_len: float) -> float:
    """Return tau from the measured share of drafts that were accepted: 1 + k * rate."""
    return 1 + draft_len * acceptance_rate


def round_ns(costs: CostTable, exit_layer: int, draft_len: float) -> float:
    """Return the time of a round of k drafts; k = 0 is a plain step.

    A mean draft length may be given: the time is linear in k as far as verification is.
    """
    if draft_len == 0:
        return costs.plain_step_ns
    return (
        draft_len * costs.draft_step_ns[exit_layer]
        + costs.closing_step_ns[exit_layer]
        + costs.verify_pass_ns(exit_layer, draft_len + 1)
        + costs.hand_over_ns
    )


def mean_round_ns(
    costs: CostTable, exit_layer: int, rounds_by_draft_len: Mapping[int, int]
) -> float:
    """Return the mean time of rounds of various draft lengths, plain rounds (0) included.

    Raises:
        ValueError: there are no rounds.
    """
    num_rounds = sum(rounds_by_draft_len.values())
    if num_rounds == 0:
        raise ValueError("no rounds to average")
    total_ns = sum(
        count * round_ns(costs, exit_layer, draft_len)
        for draft_len, count in rounds_by_draft_len.items()
    )
    return total_ns / num_rounds


def predicted_speedup(
    costs: CostTable, exit_layer: int, draft_len: int, acceptance: float
) -> float:
    """Return speed over plain decoding if each draft is accepted independently."""
    tau = expected_tokens(acceptance, draft_len)
    return tau * costs.plain_step_ns / round_ns(costs, exit_layer, draft_len)


def speedup_from_emitted(
    costs: CostTable, exit_layer: int, mean_emitted_len: float, draft_len: float
) -> float:
    """Return speed over plain decoding for a measured tau and a (mean) draft length."""
    return mean_emitted_len * costs.plain_step_ns / round_ns(costs, exit_layer, draft_len)


def speedup_from_histogram(
    costs: CostTable,
    exit_layer: int,
    mean_emitted_len: float,
    rounds_by_draft_len: Mapping[int, int],
) -> float:
    """Return speed over plain decoding where drafts stop early: tau over the mean round.

    Args:
        costs: measured times.
        exit_layer: the exit of all rounds.
        mean_emitted_len: tokens per round, over all rounds counted, plain ones included.
        rounds_by_draft_len: how many rounds had which draft length.
    """
    mean_ns = mean_round_ns(costs, exit_layer, rounds_by_draft_len)
    return mean_emitted_len * costs.plain_step_ns / mean_ns


def best_setting(
    costs: CostTable, acceptance_by_exit: Mapping[int, float], max_draft_len: int
) -> Setting:
    """Return the (E, d) of the highest predicted speed-up; off where nothing is above 1.

    On a tie the shorter draft wins, then the shallower exit. Exits without a cost are left out.
    """
    settings = [OFF_SETTING]
    for exit_layer in sorted(set(acceptance_by_exit) & set(costs.exits)):
        acceptance = acceptance_by_exit[exit_layer]
        for draft_len in range(1, max_draft_len + 1):
            speedup = predicted_speedup(costs, exit_layer, draft_len, acceptance)
            settings.append(Setting(exit_layer, draft_len, speedup))
    return max(settings, key=lambda s: (s.predicted_speedup, -s.draft_len, -s.exit_layer))


def needed_acceptance(
    costs: CostTable, exit_layer: int, max_draft_len: int, speedup: float
) -> float | None:
    """Return the least independent acceptance at which some d in [1, max_draft_len] is as fast.

    None where drafts that were all accepted would not reach the speed-up. Bisected: tau of every
    draft length rises with the acceptance.
    """

    def falls_short(acceptance: float) -> bool:
        return all(
            predicted_speedup(costs, exit_layer, draft_len, acceptance) < speedup
            for draft_len in range(1, max_draft_len + 1)
        )

    if falls_short(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return high


def in_layer_units(
    num_layers: int,
    head_to_layer: float,
    exits: Iterable[int],
    hand_over: float = 0.0,
    draft_head_to_layer: float | None = None,
) -> CostTable:
    """Return a table where one layer's weight traffic is the unit, whatever the rows.

    Then the speed-up is tau * (L + h) / (k * (E + h') + L + h), h = head / layer parameters and h'
    the same of the head that drafts are made by, h where it is not given: what published tables can
    be compared with. No machine is so simple.
    """
    exits = tuple(exits)
    draft_head = head_to_layer if draft_head_to_layer is None else draft_head_to_layer
    return CostTable(
        draft_step_ns={exit_layer: exit_layer + draft_head for exit_layer in exits},
        closing_step_ns={exit_layer: float(exit_layer) for exit_layer in exits},
        verify_ns={
            (exit_layer, 1): num_layers - exit_layer + head_to_layer for exit_layer in exits
        },
        plain_step_ns=num_layers + head_to_layer,
        hand_over_ns=hand_over,
    )
