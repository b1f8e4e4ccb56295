"""What a step takes, learned in the process from every step. Pure: no clock; times in ns come in.

The layers of a model are alike, so one curve w(n), the time of n rows through all of them, stands
behind every pass, whatever layers its rows join at:

    layers      0 ............ E_1 ........... E_2 ........ L, head
    rows        n_0            n_0 + n_1       n_0 + n_1 + n_2
    time      = (1 - s_1) * w  +  (s_1 - s_2) * w  +  s_2 * w        at the rows above

with s_E the share of a pass that lies behind layer E: from the layers at first, then as measured.
A draft phase of k drafts is k + 1 alike steps and a hand-over, each arm with a curve of its own:

    time      = H + (k + 1) * u_A(b)                                 b rows per step

Both are read at the machine's present pace: when another process takes a core, what was not
measured since is slower too. Pace and hand-over are told of each load apart: how far curves are off
with sixteen sessions says nothing of one. A measurement takes O(1), a reading microseconds.
"""

from collections.abc import Mapping
from math import log

from shared.control.cost_reader import CostReader
from shared.control.load_factors import LoadFactors
from shared.control.pace import OUTLIER
from shared.control.row_curve import RowCurve
from shared.speculation.arm import exit_layer_of, method_of
from shared.speculation.vocabulary import KANGAROO, SWIFT

# Layers that final norm, head and choice weigh, until measured.
HEAD_LAYERS = 1.0
# Layers that a draft adapter weighs, and share of all that a skip set leaves, until measured.
ADAPTER_LAYERS = 0.4
KEPT_SHARE = 0.55
# Measurements behind a reading before its errors tell of the machine.
NUM_MATURE = 8
# A share stays this near to what the layers say, and moves so slowly.
MAX_SHARE_ERROR = 1.25
SHARE_RATE = 0.003
# Draft phases of an arm before anything is read from them, of which the middle one counts: the
# first of a process takes several times as long, and would make drafting look hopeless for good.
NUM_FIRST_DRAFTS = 3
# Measurements that a time from elsewhere weighs.
RESTORED_COUNT = 3.0

Parts = list[tuple[float, float]]


class StepCosts:
    """Predicts draft phases and verify passes. Owned by one thread."""

    def __init__(self, num_layers: int) -> None:
        """Take the model's number of layers; nothing is known yet."""
        self._num_layers = num_layers
        self._pass_curve = RowCurve()
        self._shares: dict[int, float] = {}
        self._draft_curves: dict[int, RowCurve] = {}
        # By arm: (parts, ns) of its first phases.
        self._first_drafts: dict[int, list[tuple[Parts, float]]] = {}
        # In force, and by level of load.
        self._load = LoadFactors()
        self._loads: dict[int, LoadFactors] = {}

    def enter_load(self, level: int) -> None:
        """Go by what was found at a level of load from here on; at a new one, by that of now."""
        if level not in self._loads:
            self._loads[level] = self._load.copy() if self._loads else self._load
        self._load = self._loads[level]

    # --- drafts ---------------------------------------------------------------------------------

    def note_draft(self, arm: int, num_sessions: float, num_steps: int, ns: float) -> None:
        """Learn from a draft phase, hand-over included.

        Args:
            arm: the dearest of the phase where there were several, by `work_of`.
            num_sessions: mean rows of its steps; `draft_shape` tells it from the draft lengths.
            num_steps: drafts of the longest, at least 1; the closing step is not counted.
            ns: wall time; 0 and less is not noted.
        """
        if ns <= 0 or num_steps < 1 or num_sessions <= 0:
            return
        ns /= self._load.pass_pace.factor
        parts = [(num_sessions, num_steps + 1.0)]
        curve = self._draft_curves.get(arm)
        if curve is None:
            self._note_first_draft(arm, parts, ns)
            return
        hand_over_ns = self._load.hand_over.ns
        steps_ns = (num_steps + 1) * curve.at(num_sessions)
        pace = self._load.draft_pace.factor
        # A phase no longer than the hand-over says that steps are cheap, not how cheap.
        found_ns = max(ns / pace - hand_over_ns, 0.1 * ns / pace)
        is_mature = curve.num_measured(num_sessions) >= NUM_MATURE
        log_ratio = log(found_ns / steps_ns)
        curve.correct(parts, self._load.draft_pace.note(log_ratio, is_mature=is_mature))
        if is_mature and abs(log_ratio) < OUTLIER:
            self._load.hand_over.note(num_steps + 1, ns / pace, curve.at(num_sessions))

    def _note_first_draft(self, arm: int, parts: Parts, ns: float) -> None:
        first = self._first_drafts.setdefault(arm, [])
        first.append((parts, ns))
        if len(first) < NUM_FIRST_DRAFTS:
            return
        # The middle one by its time per step.
        first.sort(key=lambda each: each[1] / each[0][0][1])
        curve = self._draft_curves[arm] = RowCurve()
        curve.start(*first[len(first) // 2])
        del self._first_drafts[arm]

    def draft_ns(self, arm: int, num_sessions: float, num_steps: float) -> float | None:
        """Predict a draft phase; arguments as of `note_draft`, of which expectations will do.

        0 without drafts. None while too few were measured at every arm.
        """
        if num_steps <= 0 or num_sessions <= 0:
            return 0.0
        if not self._draft_curves:
            return None
        scale = 1.0
        curve = self._draft_curves.get(arm)
        if curve is None:
            work = self.work_of(arm)
            nearest = min(self._draft_curves, key=lambda known: abs(self.work_of(known) - work))
            curve = self._draft_curves[nearest]
            scale = (work + HEAD_LAYERS) / (self.work_of(nearest) + HEAD_LAYERS)
        steps_ns = scale * (num_steps + 1) * curve.at(num_sessions)
        pace = self._load.pass_pace.factor * self._load.draft_pace.factor
        return pace * (self._load.hand_over.ns + steps_ns)

    def work_of(self, arm: int) -> float:
        """Return the layers that a draft step of an arm runs, as a guess until it is measured."""
        method, exit_layer = method_of(arm), exit_layer_of(arm)
        if method == KANGAROO:
            return exit_layer + ADAPTER_LAYERS
        return KEPT_SHARE * self._num_layers if method == SWIFT else float(exit_layer)

    # --- passes ---------------------------------------------------------------------------------

    def note_pass(self, rows_by_resume_layer: Mapping[int, int], ns: float) -> None:
        """Learn from a verify pass.

        Args:
            rows_by_resume_layer: rows that joined at each layer; plain and prompt rows at 0.
            ns: wall time; 0 and less, and a pass without rows, is not noted.
        """
        parts = self._parts(rows_by_resume_layer)
        if ns <= 0 or not parts:
            return
        curve = self._pass_curve
        if not curve.is_known:
            curve.start(parts, ns)
            return
        predicted_ns = self._load.pass_pace.factor * self._read(parts)
        is_mature = all(curve.num_measured(rows) >= NUM_MATURE for rows, _ in parts)
        error = self._load.pass_pace.note(log(ns / predicted_ns), is_mature=is_mature)
        # Plain and prompt rows alone run all layers: they hang on no share.
        if is_mature and any(rows_by_resume_layer):
            self._correct_shares(rows_by_resume_layer, error)
        curve.correct(parts, error)

    def pass_ns(self, rows_by_resume_layer: Mapping[int, float]) -> float | None:
        """Predict a verify pass; 0 without rows, None while none was measured."""
        parts = self._parts(rows_by_resume_layer)
        if not parts:
            return 0.0
        if not self._pass_curve.is_known:
            return None
        return self._load.pass_pace.factor * self._read(parts)

    def reader(self) -> CostReader:
        """Return the costs of now, for one look at plans; at least one pass must be known."""
        return CostReader(self)

    def num_measured(self, num_rows: int) -> float:
        """Return how many measurements stand behind a pass of so many rows from layer 0 on."""
        return self._pass_curve.num_measured(num_rows) if self._pass_curve.is_known else 0.0

    def rows_within(
        self, rows_by_resume_layer: Mapping[int, float], budget_ns: float, most: int
    ) -> int:
        """Return how many more rows at layer 0 keep a pass within a budget; in [0, most].

        0 as well while nothing is known: ask `pass_ns` first.
        """
        rows = dict(rows_by_resume_layer)
        num_plain = rows.get(0, 0.0)
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            rows[0] = num_plain + middle
            ns = self.pass_ns(rows)
            low, high = (middle, high) if ns is not None and ns <= budget_ns else (low, middle - 1)
        return low

    def _parts(self, rows_by_resume_layer: Mapping[int, float]) -> Parts:
        """Return (rows, share of a whole pass) of the bands between joins, lowest first."""
        num_active = 0.0
        parts: Parts = []
        before = 0.0
        for layer in sorted(rows_by_resume_layer):
            if rows_by_resume_layer[layer] <= 0:
                continue
            share = self.share_behind(layer)
            if parts:
                parts[-1] = (num_active, max(0.0, before - share))
            num_active += rows_by_resume_layer[layer]
            parts.append((num_active, share))
            before = share
        return parts

    def _read(self, parts: Parts) -> float:
        return sum(share * self._pass_curve.at(rows) for rows, share in parts)

    def share_behind(self, layer: int) -> float:
        """Return the share of a pass that lies behind a layer, the head included."""
        if layer == 0:
            return 1.0
        share = self._shares.get(layer)
        if share is None:
            share = self._shares[layer] = self._share_of_layers(layer)
        return share

    def _share_of_layers(self, layer: int) -> float:
        return (self._num_layers - layer + HEAD_LAYERS) / (self._num_layers + HEAD_LAYERS)

    def _correct_shares(self, rows_by_resume_layer: Mapping[int, float], error: float) -> None:
        """Move the shares that a pass was predicted with, by what of its time hangs on each."""
        read_ns = self._read(self._parts(rows_by_resume_layer))
        num_active, before_ns = 0.0, 0.0
        for layer in sorted(rows_by_resume_layer):
            if rows_by_resume_layer[layer] <= 0:
                continue
            num_active += rows_by_resume_layer[layer]
            active_ns = self._pass_curve.at(num_active)
            if layer:
                share = self.share_behind(layer)
                weight = share * (active_ns - before_ns) / read_ns
                guess = self._share_of_layers(layer)
                moved = share * (1.0 + SHARE_RATE * error * weight)
                low, high = guess / MAX_SHARE_ERROR, min(1.0, guess * MAX_SHARE_ERROR)
                self._shares[layer] = max(low, min(high, moved))
            before_ns = active_ns

    # --- elsewhere ------------------------------------------------------------------------------

    def to_cells(self) -> dict[str, tuple[float, float]]:
        """Return (ns, measurements) by field, at the machine's usual pace.

        `v:0:n:0` is a pass of n rows through all layers, `d:A:b:0` a draft step of b rows at arm A.
        """
        cells = {f"v:0:{rows}:0": each for rows, each in self._pass_curve.measured().items()}
        for arm, curve in list(self._draft_curves.items()):
            cells |= {f"d:{arm}:{b}:0": each for b, each in curve.measured().items()}
        return cells

    def restore(self, cells: Mapping[str, float]) -> None:
        """Begin with what was measured on equal machines, ns by field; unknown fields are left.

        Nothing if anything was measured here already. It counts little: the first measurements of
        this process move it.
        """
        if self._pass_curve.is_known or self._draft_curves:
            return
        found: dict[tuple[str, int], dict[int, float]] = {}
        for field, ns in cells.items():
            kind, *numbers = field.split(":")
            if kind in ("v", "d") and len(numbers) == 3 and all(map(str.isdecimal, numbers)):
                found.setdefault((kind, int(numbers[0])), {})[int(numbers[1])] = ns
        self._pass_curve.restore(found.pop(("v", 0), {}), RESTORED_COUNT)
        for (kind, arm), times in found.items():
            curve = RowCurve()
            curve.restore(times, RESTORED_COUNT)
            if kind == "d" and curve.is_known:
                self._draft_curves[arm] = curve
