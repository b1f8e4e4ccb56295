"""The costs of steps at one moment, read fast: a look at plans asks for tens of them. Pure.

What was read once is kept, as costs move by a percent a step at most: a reader does for some looks
in a row. See `step_costs` for where costs come from.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.control.step_costs import StepCosts


class CostReader:
    """What steps take now; of what it told once, what is learned meanwhile is not seen."""

    __slots__ = ("_costs", "_drafts", "_rows", "_steps")

    def __init__(self, costs: "StepCosts") -> None:
        """Take the costs, of which at least one pass must be known."""
        self._costs = costs
        self._steps: dict[tuple[int, int, int, int, int], float] = {}
        # Passes through all layers by rows; draft steps by arm and rows.
        self._rows: dict[int, float] = {}
        self._drafts: dict[tuple[int, float], tuple[float, float]] = {}

    def even_ns(
        self, arm: int, resume_layer: int, num_plain: int, num_rows: int, num_steps: int
    ) -> float:
        """Predict a step all of whose drafts come from one arm.

        Args:
            arm: of the drafts; resume_layer: where verification takes their rows up.
            num_plain: rows of sessions that do not draft.
            num_rows: drafts and pending tokens of those that do.
            num_steps: drafts of the longest; 0: nobody drafts.
        """
        key = (arm, resume_layer, num_plain, num_rows, num_steps)
        ns = self._steps.get(key)
        if ns is None:
            ns = self._steps[key] = self._even_ns(*key)
        return ns

    def _even_ns(
        self, arm: int, resume_layer: int, num_plain: int, num_rows: int, num_steps: int
    ) -> float:
        if not num_steps:
            return self._pass_ns(num_plain)
        share = self._costs.share_behind(resume_layer)
        pass_ns = share * self._pass_ns(num_plain + num_rows)
        if num_plain:
            pass_ns += (1.0 - share) * self._pass_ns(num_plain)
        return pass_ns + self._draft_ns(arm, num_rows / (num_steps + 1), num_steps)

    def mixed_ns(
        self, rows: Mapping[int, int], arms: Collection[int], num_draft_rows: int, num_steps: int
    ) -> float:
        """Predict any step; what is not known counts as nothing.

        Args:
            rows: of the verify pass, by the layer at which they join.
            arms: those that draft, the dearest of which counts; num_steps: drafts of the longest.
            num_draft_rows: of all draft steps together, closing rows included.
        """
        pass_ns = self._costs.pass_ns(rows) or 0.0
        if not num_steps:
            return pass_ns
        rows_per_step = num_draft_rows / (num_steps + 1)
        return pass_ns + max(self._draft_ns(arm, rows_per_step, num_steps) for arm in arms)

    def _pass_ns(self, num_rows: int) -> float:
        ns = self._rows.get(num_rows)
        if ns is None:
            ns = self._rows[num_rows] = self._costs.pass_ns({0: num_rows}) or 0.0
        return ns

    def _draft_ns(self, arm: int, rows_per_step: float, num_steps: int) -> float:
        """Return a phase as a line over its steps: that of one draft, and what each more takes."""
        line = self._drafts.get((arm, rows_per_step))
        if line is None:
            one, two = (self._costs.draft_ns(arm, rows_per_step, n) or 0.0 for n in (1, 2))
            line = self._drafts[arm, rows_per_step] = (one, two - one)
        return line[0] + (num_steps - 1) * line[1]
