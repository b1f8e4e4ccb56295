"""Tapes, costs and reports by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.speculation.cost_model import CostTable, in_layer_units
from shared.speculation.tape import ExitTrack, Tape
from shared.telemetry.machine import Machine
from shortstack.bench.sweep import Grid
from shortstack.exits.outlook import Outlook, add_grids, make_outlook, replay_grid
from shortstack.exits.report import Conditions, ExitsReport

NUM_LAYERS = 8
EXITS = (1, 2, 4)
MAX_DRAFT_LEN = 4
THRESHOLDS = (0.0, 0.5)
MACHINE = Machine("Some CPU", 2, 8 << 30, "Linux 6", {"python": "3.11"}, 0.1)
# In units of a layer's weight traffic, as ns.
COSTS: CostTable = in_layer_units(NUM_LAYERS, 0.5, EXITS)


def make_tape(*tracks: str, num_unused: int = 100) -> Tape:
    """Return a tape from texts such as "x.xx", one per exit of EXITS; wrong choices are unsure."""
    made = {
        exit_layer: ExitTrack(
            [mark == "x" for mark in marks], [0.9 if mark == "x" else 0.4 for mark in marks]
        )
        for exit_layer, marks in zip(EXITS, tracks, strict=True)
    }
    return Tape(len(tracks[0]), made, num_unused)


GOOD = make_tape("xx." * 20, "xxxx." * 12, "x" * 60)
BAD = make_tape("." * 60, "...x." * 12, "..x.." * 12)


def make_outlooks(
    tapes: Mapping[str, Sequence[Tape]], costs: CostTable = COSTS
) -> tuple[Outlook, dict[str, Outlook]]:
    """Return the outlook on all tapes and by kind."""
    grid = Grid(EXITS, tuple(range(1, MAX_DRAFT_LEN + 1)), THRESHOLDS)
    settings = list(grid.settings(NUM_LAYERS))
    grids = {kind: replay_grid(own, settings) for kind, own in tapes.items()}
    by_kind = {kind: make_outlook(own, grids[kind], costs) for kind, own in tapes.items()}
    every = [tape for own in tapes.values() for tape in own]
    return make_outlook(every, add_grids(list(grids.values())), costs), by_kind


def make_report(
    tapes: Mapping[str, Sequence[Tape]], costs: CostTable = COSTS, scatter: float = 0.01
) -> ExitsReport:
    """Return a report on tapes by kind."""
    overall, by_kind = make_outlooks(tapes, costs)
    conditions = Conditions(
        model_dir=Path("/models/tiny"),
        num_layers=NUM_LAYERS,
        dtype="float32",
        device="cpu",
        num_draftable=99,
        num_threads=2,
        num_prompts=len(tapes),
        max_new_tokens=61,
        max_draft_len=MAX_DRAFT_LEN,
        stop_thresholds=THRESHOLDS,
        hand_over_ms=0.0,
        context_len=70,
    )
    return ExitsReport(MACHINE, conditions, costs, scatter, overall, by_kind, 0, 100.0)
