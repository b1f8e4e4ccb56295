"""What a look at a model's exits found, as one value, and its JSON. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.speculation.cost_model import CostTable
from shared.telemetry.machine import Machine
from shortstack.bench.report import rounded_values
from shortstack.exits.advice import advise
from shortstack.exits.outlook import Cell, Outlook


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was looked at, and how. Lengths in tokens.

    num_draftable: tokens that drafts are scored by, the whole vocabulary if nothing smaller.
    context_len: positions before the rows whose time was measured: the middle of what was
        generated.
    """

    model_dir: Path
    num_layers: int
    dtype: str
    device: str
    num_draftable: int
    num_threads: int
    num_prompts: int
    max_new_tokens: int
    max_draft_len: int
    stop_thresholds: tuple[float, ...]
    hand_over_ms: float
    context_len: int


@dataclass(frozen=True, slots=True)
class ExitsReport:
    """Everything.

    costs: times on their lines over the layers; cost_scatter is how far from these the measured
        ones lay: the median share, large on a machine that had other things to do.
    num_near_ties: places where the one pass over the text chose another token at the last layer
        than decoding one by one had; sums in another order, so there must be few.
    plain_tok_s: speed of plain decoding while the texts were made, first token to last.
    """

    machine: Machine
    conditions: Conditions
    costs: CostTable
    cost_scatter: float
    overall: Outlook
    by_kind: Mapping[str, Outlook]
    num_near_ties: int
    plain_tok_s: float

    def to_json(self) -> dict[str, Any]:
        """Return everything, rounded."""
        advice = advise(self.overall, self.by_kind, self.costs, self.conditions.max_draft_len)
        conditions = asdict(self.conditions) | {"model_dir": self.conditions.model_dir.name}
        values: dict[str, Any] = rounded_values(
            {
                "model": self.conditions.model_dir.name,
                "machine": asdict(self.machine),
                "conditions": conditions,
                "is_worth_it": advice.is_worth_it,
                "advice": advice.lines,
                "plain_tok_s": self.plain_tok_s,
                "near_ties": self.num_near_ties,
                "costs": _costs(self.costs) | {"scatter": self.cost_scatter},
                "overall": _outlook(self.overall),
                "by_kind": {kind: _outlook(each) for kind, each in self.by_kind.items()},
            }
        )
        return values


def _costs(costs: CostTable) -> dict[str, Any]:
    """Return times in ms; JSON has no keys but strings."""
    return {
        "plain_step_ms": costs.plain_step_ns / 1e6,
        "hand_over_ms": costs.hand_over_ns / 1e6,
        "by_exit": {
            str(exit_layer): {
                "draft_step_ms": costs.draft_step_ns[exit_layer] / 1e6,
                "closing_step_ms": costs.closing_step_ns[exit_layer] / 1e6,
                "verify_ms_by_rows": {
                    str(num_rows): ns / 1e6
                    for (layer, num_rows), ns in sorted(costs.verify_ns.items())
                    if layer == exit_layer
                },
            }
            for exit_layer in costs.exits
        },
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "tokens": outlook.num_tokens,
        "agreement": {str(exit_layer): share for exit_layer, share in outlook.agreement.items()},
        "best": _best(outlook),
        "grid": [_cell(cell) for cell in outlook.cells],
    }


def _best(outlook: Outlook) -> dict[str, Any]:
    summary = outlook.best.replay.summary
    return _cell(outlook.best) | {
        "mean_draft_len": outlook.best.mean_draft_len,
        "acceptance_rate": summary.acceptance_rate,
        "survival": outlook.survival(),
    }


def _cell(cell: Cell) -> dict[str, Any]:
    summary = cell.replay.summary
    return asdict(cell.setting) | {
        "predicted_speedup": cell.predicted_speedup,
        "mean_emitted_len": summary.mean_emitted_len,
        "rounds": cell.replay.num_rounds,
        "drafted": summary.num_draft_tokens,
        "accepted": summary.num_accepted_tokens,
    }
