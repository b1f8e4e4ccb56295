"""How well acceptance is told in advance, by heads and by what is known without one.

    head           the head's chance
    gap            sigmoid(BARE_SCALE * gap), what drafts go by without a head
    probability    softmax of the exit's logits at its choice

    loss           binary cross-entropy, in nats
    auc            how often an accepted choice has the higher chance than a refused one
    calibration    mean chance and share that agreed, in ten equal parts by chance

Scored are heads as they are written, with their rounding. Shapes: R positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.model.acceptance_heads import BARE_SCALE, AcceptanceHeads
from training.acceptance.head import HeadsOfModel
from training.acceptance.looks import look
from training.evaluate import NOISE_SEED, batches_of
from training.rows import Row
from training.rows_trainer import HeldOut

ALL = "all texts"
NUM_PARTS = 10
FORECASTS = ("head", "gap", "probability")
MOODS = ("greedy", "sampled")


@dataclass(frozen=True)
class ForecastScores:
    """One way to tell acceptance; see the module."""

    loss: float
    auc: float
    calibration: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class ExitForecasts:
    """One exit: how often it agreed, and each way to tell, by the names of FORECASTS."""

    agreement: float
    num_positions: int
    forecasts: Mapping[str, ForecastScores]


TextForecasts = Mapping[str, Mapping[int, ExitForecasts]]
"""Of one text: exits by the mood that tokens were chosen in, and by exit layer."""

Chances = Mapping[int, Tensor]
"""By exit layer: chances by FORECASTS, whether it agreed, temperature; float64 [5, R]."""


def score_heads(
    model: HeadsOfModel, heads: AcceptanceHeads, held_out: Mapping[str, HeldOut]
) -> dict[str, TextForecasts]:
    """Score heads on every text, and on ALL of them together."""
    found = {name: _chances(model, heads, text.rows) for name, text in held_out.items()}
    together = {
        each: torch.cat([chances[each] for chances in found.values()], -1)
        for each in heads.exit_layers
    }
    return {name: _scores(chances) for name, chances in [*found.items(), (ALL, together)]}


@torch.no_grad()
def _chances(model: HeadsOfModel, heads: AcceptanceHeads, rows: Sequence[Row]) -> Chances:
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(NOISE_SEED)
    heads = heads.to(device)
    parts: dict[int, list[Tensor]] = {each: [] for each in heads.exit_layers}
    for batch in batches_of(rows):
        ids, labels = batch["input_ids"].to(device), batch["labels"].to(device)
        for each, seen in look(model, ids, labels, generator).items():
            a_RD, b_RD = (model.rows_of(ids_R) for ids_R in seen.pairs_R2.unbind(-1))
            seen_of = (seen.z_RD, a_RD, b_RD, seen.gaps_R, seen.temperatures_R)
            by_head_R = heads.by_exit[each](*seen_of)
            by_gap_R = torch.sigmoid(BARE_SCALE * seen.gaps_R)
            told = (by_head_R, by_gap_R, seen.probabilities_R, seen.agrees_R, seen.temperatures_R)
            parts[each].append(torch.stack([one.double().cpu() for one in told]))
    return {each: torch.cat(found, -1) for each, found in parts.items()}


def _scores(chances: Chances) -> TextForecasts:
    scores: dict[str, dict[int, ExitForecasts]] = {}
    for each, told in chances.items():
        is_greedy_R = told[-1] == 0
        for mood, is_own_R in zip(MOODS, (is_greedy_R, ~is_greedy_R), strict=True):
            if is_own_R.any():
                scores.setdefault(mood, {})[each] = _exit_scores(told[:-1, is_own_R])
    return scores


def _exit_scores(told: Tensor) -> ExitForecasts:
    agrees_R = told[-1]
    forecasts = {
        name: ForecastScores(
            F.binary_cross_entropy(chances_R, agrees_R).item(),
            auc(chances_R, agrees_R.bool()),
            calibration(chances_R, agrees_R),
        )
        for name, chances_R in zip(FORECASTS, told, strict=False)
    }
    return ExitForecasts(agrees_R.mean().item(), len(agrees_R), forecasts)


def auc(chances_R: Tensor, agrees_R: Tensor) -> float:
    """Area under the ROC curve; ties count half; 0.5 where all agreed, or none."""
    num_agreed = int(agrees_R.sum())
    num_pairs = num_agreed * (len(agrees_R) - num_agreed)
    if not num_pairs:
        return 0.5
    _, places_R, counts = chances_R.unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0) - (counts - 1) / 2
    above = ranks[places_R][agrees_R].sum().item() - num_agreed * (num_agreed + 1) / 2
    return float(above / num_pairs)


def calibration(chances_R: Tensor, agrees_R: Tensor) -> list[tuple[float, float]]:
    """Mean chance and share that agreed, in ten equal parts, lowest chances first."""
    order = chances_R.argsort()
    parts = zip(
        chances_R[order].tensor_split(NUM_PARTS),
        agrees_R[order].tensor_split(NUM_PARTS),
        strict=True,
    )
    return [(told.mean().item(), seen.mean().item()) for told, seen in parts if len(told)]
