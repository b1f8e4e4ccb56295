"""What the steps of a replay take: the truth that controllers have to find out. Pure.

    draft phase   H + sum over its steps: layers [0, E) on rows active, head on those drafting, and
                  what the first steps take longer than those behind them
    verify pass   V(E, n), rows that enter at several layers in bands:

    layers      0 ............ E_1 ............ E_2 ........ L, head
    rows        n_0            n_0 + n_1        n_0 + n_1 + n_2
    time        V(0) - V(E_1)  V(E_1) - V(E_2)  V(E_2)               at the rows above

Between processes, where each waits for the other, draft steps, passes that verify drafts and plain
passes take longer, each by a stretch of its own.

Reading another exit at some rows takes those rows through norm, head and choice beside the others.
All times in ns, measured (`shared.speculation.cost_model` for one session, a sweep for more).
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from shared.speculation.cost_model import CostTable


class Curve:
    """A time over rows: linear between measured points, flat below, never falling behind them."""

    def __init__(self, points: Mapping[int, float]) -> None:
        """Take points by number of rows, at least one."""
        self._rows = sorted(points)
        self._times = [points[rows] for rows in self._rows]

    def at(self, rows: float) -> float:
        """Return the time at so many rows."""
        known, times = self._rows, self._times
        upper = bisect_left(known, rows)
        if upper == 0 or len(known) == 1:
            return times[0]
        upper = min(upper, len(known) - 1)
        x0, x1, y0, y1 = known[upper - 1], known[upper], times[upper - 1], times[upper]
        slope = (y1 - y0) / (x1 - x0)
        if rows > x1:
            return y1 + max(slope, 0.0) * (rows - x1)
        return y0 + slope * (rows - x0)


class DraftLoad(NamedTuple):
    """One session's part of a draft phase: k >= 1 drafts at an exit, other exits read beside.

    by_chance: whether each draft tells its chance to be kept.
    """

    exit_layer: int
    draft_len: int
    num_shadows: int = 0
    by_chance: bool = False


@dataclass(frozen=True)
class StepTimes:
    """Measured times.

    draft_ns: by (E, sessions): layers [0, E), head and choice of one row each.
    closing_ns: by (E, sessions): layers [0, E) alone.
    verify_ns: by (E, rows): layers [E, L), head and choice, rows of one session; E = 0 is there.
    head_ns: by rows: norm, head and choice alone; empty: reading an exit takes nothing.
    first_steps_ns: by (E, step from 1): what the first steps of a phase take longer: while others
        verified, what they read has left the cache; empty: nothing.
    chance_ns: by sessions: what it adds to a draft step that their drafts tell chances; empty:
        nothing.
    session_layer_ns: what each further session of a pass takes more in each layer.
    hand_over_ns: of a draft phase; overhead_ns: of every step; draft_stretch, pass_stretch,
        plain_stretch: how many times as long as measured draft steps, passes that enter at an exit
        and passes from layer 0 on take.

    Raises:
        ValueError: nothing was measured from layer 0 on, so there is no plain step.
    """

    num_layers: int
    draft_ns: Mapping[tuple[int, int], float]
    closing_ns: Mapping[tuple[int, int], float]
    verify_ns: Mapping[tuple[int, int], float]
    head_ns: Mapping[int, float] = field(default_factory=dict)
    first_steps_ns: Mapping[tuple[int, int], float] = field(default_factory=dict)
    chance_ns: Mapping[int, float] = field(default_factory=dict)
    session_layer_ns: float = 0.0
    hand_over_ns: float = 0.0
    overhead_ns: float = 0.0
    draft_stretch: float = 1.0
    pass_stretch: float = 1.0
    plain_stretch: float = 1.0

    def __post_init__(self) -> None:
        if 0 not in {layer for layer, _ in self.verify_ns}:
            raise ValueError("no verify pass from layer 0 on was measured")

    @property
    def exits(self) -> tuple[int, ...]:
        """Exits at which drafts were measured, shallow first."""
        return tuple(sorted({exit_layer for exit_layer, _ in self.draft_ns}))

    def round_ns(self, exit_layer: int, draft_len: int) -> float:
        """Return the time of a step of one session with k drafts; k = 0 is a plain step."""
        key = (exit_layer, draft_len)
        found = self._round_memo.get(key)
        if found is None:
            found = self._round_memo[key] = self._round_ns(exit_layer, draft_len)
        return found

    def _round_ns(self, exit_layer: int, draft_len: int) -> float:
        if not draft_len:
            return self.pass_ns({0: 1}, 1) + self.overhead_ns
        drafting_ns = self.draft_phase_ns([DraftLoad(exit_layer, draft_len)])
        return drafting_ns + self.pass_ns({exit_layer: draft_len + 1}, 1) + self.overhead_ns

    def draft_phase_ns(self, drafts: Sequence[DraftLoad]) -> float:
        """Return the time of the draft phase of all sessions that draft; 0 without any."""
        if not drafts:
            return 0.0
        # Few phases are different ones, and thousands of settings are replayed.
        key = tuple(sorted(drafts))
        found = self._phase_memo.get(key)
        if found is None:
            found = self._phase_memo[key] = self._phase_ns(drafts)
        return found

    def _phase_ns(self, drafts: Sequence[DraftLoad]) -> float:
        steps_ns = 0.0
        for step in range(1, max(each.draft_len for each in drafts) + 2):
            active = [each for each in drafts if each.draft_len + 1 >= step]
            deepest = max(each.exit_layer for each in active)
            steps_ns += self._draft_step_ns(active, step)
            steps_ns += self.first_steps_ns.get((deepest, step), 0.0)
        return self.hand_over_ns + self.draft_stretch * steps_ns

    def _draft_step_ns(self, active: Sequence[DraftLoad], step: int) -> float:
        """Return the time of one step; a session in its closing step reads other exits alone."""
        by_depth = sorted(active, key=lambda each: -each.exit_layer)
        num_drafting = sum(each.draft_len >= step for each in active)
        num_shadows = sum(each.num_shadows for each in active)
        layers_ns, below = 0.0, 0.0
        for num_deep, each in enumerate(by_depth, 1):
            is_last_at_exit = (
                num_deep == len(by_depth) or by_depth[num_deep].exit_layer < each.exit_layer
            )
            if is_last_at_exit:
                # Layers between the next shallower exit and this one, on the rows that go so deep.
                below = (
                    self._closing(by_depth[num_deep].exit_layer, num_deep)
                    if num_deep < len(by_depth)
                    else 0.0
                )
                layers_ns += max(0.0, self._closing(each.exit_layer, num_deep) - below)
        deepest = by_depth[0].exit_layer
        head_ns = 0.0
        if num_drafting:
            head_ns = self._drafting(deepest, num_drafting) - self._closing(deepest, num_drafting)
        num_telling = sum(each.by_chance and each.draft_len >= step for each in active)
        head_ns += self._telling(num_telling)
        return layers_ns + head_ns + self.more_heads_ns(num_drafting, num_shadows)

    def pass_ns(
        self, rows_by_layer: Mapping[int, int], num_sessions: int, num_more_heads: int = 0
    ) -> float:
        """Return the time of a verify pass.

        Args:
            rows_by_layer: rows that enter at each layer, plain ones at 0; at least one row.
            num_sessions: whose rows these are.
            num_more_heads: rows at which exits are read beside the last layer.
        """
        entries = [layer for layer in sorted(rows_by_layer) if rows_by_layer[layer]]
        total_ns, num_active = 0.0, 0
        for layer, above in zip(entries, [*entries[1:], None], strict=True):
            num_active += rows_by_layer[layer]
            band_ns = self._verify(layer, num_active)
            if above is not None:
                band_ns = max(0.0, band_ns - self._verify(above, num_active))
            total_ns += band_ns
        share = self.num_layers - entries[0]
        more_ns = (num_sessions - 1) * self.session_layer_ns * share
        more_ns += self.more_heads_ns(num_active, num_more_heads)
        return total_ns + self._pass_stretch(entries[0]) * more_ns

    def more_heads_ns(self, num_rows: int, num_more: int) -> float:
        """Return what more rows take in a head that has some already."""
        if not num_more or self._heads is None:
            return 0.0
        already_ns = self._heads.at(num_rows) if num_rows else 0.0
        return max(0.0, self._heads.at(num_rows + num_more) - already_ns)

    def _telling(self, rows: int) -> float:
        return self._chances.at(rows) if rows and self._chances is not None else 0.0

    def _drafting(self, exit_layer: int, rows: int) -> float:
        return self._draft_curves[exit_layer].at(rows)

    def _closing(self, exit_layer: int, rows: int) -> float:
        return self._closing_curves[exit_layer].at(rows)

    def _verify(self, layer: int, rows: int) -> float:
        return self._pass_stretch(layer) * self._verify_curves[layer].at(rows)

    def _pass_stretch(self, layer: int) -> float:
        return self.pass_stretch if layer else self.plain_stretch

    @cached_property
    def _round_memo(self) -> dict[tuple[int, int], float]:
        return {}

    @cached_property
    def _phase_memo(self) -> dict[tuple[DraftLoad, ...], float]:
        return {}

    @cached_property
    def _draft_curves(self) -> dict[int, Curve]:
        return _curves(self.draft_ns)

    @cached_property
    def _closing_curves(self) -> dict[int, Curve]:
        return _curves(self.closing_ns)

    @cached_property
    def _verify_curves(self) -> dict[int, Curve]:
        return _curves(self.verify_ns)

    @cached_property
    def _heads(self) -> Curve | None:
        return Curve(self.head_ns) if self.head_ns else None

    @cached_property
    def _chances(self) -> Curve | None:
        return Curve(self.chance_ns) if self.chance_ns else None


def _curves(times: Mapping[tuple[int, int], float]) -> dict[int, Curve]:
    points: dict[int, dict[int, float]] = {}
    for (layer, rows), ns in times.items():
        points.setdefault(layer, {})[rows] = ns
    return {layer: Curve(each) for layer, each in points.items()}


def times_of(costs: CostTable, num_layers: int, overhead_ns: float = 0.0) -> StepTimes:
    """Return the times of one session's steps, from the table of the cost model."""
    return StepTimes(
        num_layers=num_layers,
        draft_ns={(e, 1): ns for e, ns in costs.draft_step_ns.items()},
        closing_ns={(e, 1): ns for e, ns in costs.closing_step_ns.items()},
        verify_ns={**costs.verify_ns, (0, 1): costs.plain_step_ns},
        hand_over_ns=costs.hand_over_ns,
        overhead_ns=overhead_ns,
    )
