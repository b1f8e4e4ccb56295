"""The formulas of LayerSkip: who is dropped, which exits are trained, how much each counts.

Values in, values out: no tensors, no model, no files. LayerSkip is Elhoushi et al. 2024,
arXiv:2404.16710; equation names below are ours. Layers are counted from 0 to L-1, steps from 0 to
T-1, and exit E is the output of layer E-1. Every random draw is a pure function of the seed and
of what it is drawn for, so resuming a run needs no generator state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_MASK = (1 << 64) - 1
CURRICULA = ("rotational", "gradual", "all", "last")
SCALES = ("exp", "constant")


@dataclass(frozen=True)
class Recipe:
    """The knobs of one LayerSkip run.

    Attributes:
        p_max: dropout probability of the last layer when the curriculum has ended, in [0, 1].
        e_scale: how much the early exits count, in [0, 1]; 0 leaves each of them without weight.
        curriculum: one of CURRICULA; "last" is training without early exits.
        rotation: R of the rotational curriculum; each exit is on in every R-th step.
        dropout_scale: S(t): "exp" from scratch, "constant" for continued training.
        exit_distillation: weight of the mean divergence of the step's early exits from the last
            layer, whose choice is not moved by it; 0 is the paper's loss. Ours.
        base_distillation: weight of the divergence of the last layer from that of the model the
            run began with, which guards its quality; 0 is the paper's loss.
        start_layers: how many of the layers exist when the run begins; None means all. Ours: a
            shallow start costs little and leaves the first exit as good as a whole model.
        grow_at: share of the run after which all layers exist, in [0, 1).
        grow_scale: how strongly the new layers write at first, as a share of the layers that they
            are copies of, in [0, 1]; at 0 growing changes no output.
    """

    num_layers: int
    p_max: float = 0.1
    e_scale: float = 1.0
    curriculum: str = "rotational"
    rotation: int = 4
    dropout_scale: str = "exp"
    exit_distillation: float = 0.0
    base_distillation: float = 0.0
    start_layers: int | None = None
    grow_at: float = 0.0
    grow_scale: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values outside their ranges, all faults at once."""
        checks = {
            "num_layers must be at least 2": self.num_layers >= 2,
            "p_max must lie in [0, 1]": 0 <= self.p_max <= 1,
            "e_scale must lie in [0, 1]": 0 <= self.e_scale <= 1,
            f"curriculum must be one of {CURRICULA}": self.curriculum in CURRICULA,
            "rotation must be at least 1": self.rotation >= 1,
            f"dropout_scale must be one of {SCALES}": self.dropout_scale in SCALES,
            "exit_distillation must not be negative": self.exit_distillation >= 0,
            "base_distillation must not be negative": self.base_distillation >= 0,
            "start_layers must lie in [2, num_layers]": (
                self.start_layers is None or 2 <= self.start_layers <= self.num_layers
            ),
            "grow_at must lie in [0, 1)": 0 <= self.grow_at < 1,
            "grow_scale must lie in [0, 1]": 0 <= self.grow_scale <= 1,
        }
        faults = [text for text, holds in checks.items() if not holds]
        if faults:
            raise ValueError("; ".join(faults))


def growth_step(recipe: Recipe, num_steps: int) -> int:
    """The first step with all layers."""
    return 0 if recipe.start_layers is None else round(recipe.grow_at * num_steps)


def stage_of(recipe: Recipe, step: int, num_steps: int) -> Recipe:
    """The recipe as it stands at a step: with the layers that exist by then.

    All formulas below take L from it, so a run that grows is a shallow run, then a deep one.
    """
    if recipe.start_layers is None or step >= growth_step(recipe, num_steps):
        return recipe
    return replace(recipe, num_layers=recipe.start_layers)


def depth_scale(layer: int, num_layers: int) -> float:
    """D(l) = 2^(l/(L-1)) - 1: deeper layers are dropped more; 0 at the first, 1 at the last."""
    return float(2.0 ** (layer / (num_layers - 1)) - 1.0)


def time_scale(step: int, num_steps: int, kind: str = "exp") -> float:
    """S(t) = 2^(t/(T-1)) - 1 from scratch, 1 for continued training."""
    if kind == "constant" or num_steps < 2:
        return 1.0
    return float(2.0 ** (min(step, num_steps - 1) / (num_steps - 1)) - 1.0)


def drop_probability(recipe: Recipe, layer: int, step: int, num_steps: int) -> float:
    """p(l,t) = S(t) D(l) p_max."""
    scale = time_scale(step, num_steps, recipe.dropout_scale)
    return scale * depth_scale(layer, recipe.num_layers) * recipe.p_max


def exit_scale(layer: int, num_layers: int, e_scale: float) -> float:
    """e(l): weight of the exit after layer l before it is normalised; e(0) is 0."""
    last = num_layers - 1
    if layer < last:
        return e_scale * layer * (layer + 1) / 2
    return last + e_scale * last * (last - 1) / 2


def enabled_exits(recipe: Recipe, step: int, num_steps: int) -> tuple[int, ...]:
    """Layers whose outputs are in the loss of this step; the last one always is.

    rotational: every R-th layer, the set moving by one layer per step. gradual: from the last
    layer downwards, all on by half of the run. That the last layer is always on, and the rounding
    of the gradual curriculum, are inferred: the paper does not say.
    """
    last = recipe.num_layers - 1
    if recipe.curriculum == "last":
        return (last,)
    if recipe.curriculum == "rotational":
        early = [layer for layer in range(last) if (layer - step) % recipe.rotation == 0]
    elif recipe.curriculum == "gradual":
        lowest = last - math.floor(2 * recipe.num_layers * step / max(num_steps, 1))
        early = list(range(max(0, lowest), last))
    else:
        early = list(range(last))
    return (*early, last)


def exit_weights(recipe: Recipe, step: int, num_steps: int) -> dict[int, float]:
    """w(t,l) of the exits that count in this step, by layer; they sum to 1.

    Exits of weight 0 (layer 0 always; all early ones if e_scale is 0) are left out, so nobody
    computes a head for nothing.
    """
    enabled = enabled_exits(recipe, step, num_steps)
    scales = {layer: exit_scale(layer, recipe.num_layers, recipe.e_scale) for layer in enabled}
    total = sum(scales.values())
    return {layer: scale / total for layer, scale in scales.items() if scale > 0}


def last_layer_shares(recipe: Recipe, num_steps: int) -> tuple[float, float, float]:
    """Share of the loss on the last layer: mean, smallest, largest, over a sample of the steps.

    This is the knob behind what the recipe costs in quality. It is taken with all layers. One
    rotation is enough for the rotational curriculum; the gradual one needs the whole run.
    """
    gradual = recipe.curriculum == "gradual"
    steps = range(num_steps) if gradual else range(recipe.rotation)
    shares = [exit_weights(recipe, step, num_steps)[recipe.num_layers - 1] for step in steps]
    return sum(shares) / len(shares), min(shares), max(shares)


def uniform(*key: int) -> float:
    """A number in [0, 1) that is a pure function of the key: splitmix64 over its parts."""
    state = 0
    for part in key:
        state = _splitmix((state ^ (part & _MASK)) & _MASK)
    return (state >> 11) / float(1 << 53)


def _splitmix(state: int) -> int:
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


@dataclass(frozen=True)
class Draws:
    """Names one micro-batch for the dropout draws: seed, optimiser step, index in the step."""

    seed: int
    step: int
    micro_batch: int

    def kept_rows(self, layer: int, num_rows: int, probability: float) -> Sequence[int]:
        """Rows that run this layer; each row is dropped with `probability`, on its own draw."""
        if probability <= 0.0:
            return range(num_rows)
        key = (self.seed, self.step, self.micro_batch, layer)
        return [row for row in range(num_rows) if uniform(*key, row) >= probability]
