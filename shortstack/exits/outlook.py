"""What to expect of speculation on some texts: every static setting, replayed and priced. Pure.

    speed-up    tokens * T_off / sum of T_round(k) over the rounds of the replay

Prices are those of `shared.speculation.cost_model`. The texts' first tokens are the prefill's and
count on neither side.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shared.speculation.cost_model import CostTable, speedup_from_histogram
from shared.speculation.tape import Replay, Tape, replay, sum_replays
from shortstack.bench.sweep import Setting

Replays = Mapping[Setting, Replay]


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the grid."""

    setting: Setting
    replay: Replay
    predicted_speedup: float

    @property
    def mean_draft_len(self) -> float:
        """Drafts per round with a draft; 0 without any."""
        summary = self.replay.summary
        return summary.num_draft_tokens / summary.num_drafts if summary.num_drafts else 0.0


@dataclass(frozen=True)
class Outlook:
    """Texts of one kind, or of all.

    agreement: by exit, the share of tokens that the exit would have chosen too, in [0, 1].
    cells: every setting of the grid, at least one.
    """

    num_tokens: int
    agreement: Mapping[int, float]
    cells: Sequence[Cell]

    @cached_property
    def best(self) -> Cell:
        """The setting of the highest predicted speed-up."""
        return max(self.cells, key=_rank)

    @cached_property
    def best_thresholds(self) -> dict[tuple[int, int], Cell]:
        """By exit layer and draft length, the cell of the best threshold."""
        best: dict[tuple[int, int], Cell] = {}
        for cell in self.cells:
            key = (cell.setting.exit_layer, cell.setting.draft_len)
            if key not in best or _rank(cell) > _rank(best[key]):
                best[key] = cell
        return best

    def cell_of(self, setting: Setting) -> Cell:
        """Return the cell of a setting of the grid."""
        return next(cell for cell in self.cells if cell.setting == setting)

    def survival(self) -> list[float]:
        """Return S(j) of the best setting, for its draft positions j in [1, d]."""
        return self.best.replay.survival(self.best.setting.draft_len)


def _rank(cell: Cell) -> tuple[float, int, int, float]:
    """Order cells by speed; of equal ones the shorter, shallower, less picky draft is better."""
    setting = cell.setting
    return (
        cell.predicted_speedup,
        -setting.draft_len,
        -setting.exit_layer,
        -setting.stop_threshold,
    )


def replay_grid(
    tapes: Sequence[Tape],
    settings: Iterable[Setting],
    on_setting: Callable[[], None] = lambda: None,
) -> dict[Setting, Replay]:
    """Replay every setting over all tapes of one kind."""
    replays = {}
    for setting in settings:
        replays[setting] = sum_replays(
            replay(tape, setting.exit_layer, setting.draft_len, setting.stop_threshold)
            for tape in tapes
        )
        on_setting()
    return replays


def add_grids(grids: Sequence[Replays]) -> dict[Setting, Replay]:
    """Add the replays of several kinds, setting by setting."""
    return {setting: sum_replays(grid[setting] for grid in grids) for setting in grids[0]}


def make_outlook(tapes: Sequence[Tape], replays: Replays, costs: CostTable) -> Outlook:
    """Price what was replayed.

    Raises:
        ValueError: the tapes hold no token.
    """
    num_tokens = sum(tape.num_tokens for tape in tapes)
    if not num_tokens:
        raise ValueError("no tokens to look at")
    agreement = {
        exit_layer: sum(sum(tape.tracks[exit_layer].matches) for tape in tapes) / num_tokens
        for exit_layer in tapes[0].tracks
    }
    return Outlook(num_tokens, agreement, list(_price(replays, costs)))


def _price(replays: Replays, costs: CostTable) -> Iterator[Cell]:
    for setting, each in replays.items():
        speedup = speedup_from_histogram(
            costs, setting.exit_layer, each.num_tokens / each.num_rounds, each.rounds_by_draft_len
        )
        yield Cell(setting, each, speedup)
