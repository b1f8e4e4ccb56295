"""Acceptance heads: how likely the full model is to agree with what an exit chose.

    gap      score(a) - score(b) of the two best tokens a, b of the exit, in units of logits
    d        (w_a - w_b) * z          w: rows of the output head, z: what it read; sum(d) ~ gap
    chance   sigmoid( scale * gap + up . silu(down [z; w_a; w_b; d] + bias) + offset )

One for each exit, as SpecDec++ trains one for a drafter (Huang et al. 2024, arXiv:2405.19715); that
it sees which two tokens compete is ours: later layers seldom do more than turn a close race.
Chances decide how long drafts are and never the text. Knows no files. Shapes: R rows, D hidden, M
width, F = 4 D features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F

# Where an exit has no head: what its gap alone tells of it, the scale of `sigmoid(scale * gap)`.
BARE_SCALE = 4.0
# e to the power of more is not to be had.
MOST = 700.0


@dataclass(frozen=True)
class AcceptanceHead:
    """The head of one exit, float32: down [M, F], bias [M], up [M], scale and offset []."""

    down_MF: torch.Tensor
    bias_M: torch.Tensor
    up_M: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    def __call__(
        self, z_RD: torch.Tensor, a_RD: torch.Tensor, b_RD: torch.Tensor, gaps_R: torch.Tensor
    ) -> torch.Tensor:
        """Return chances [R].

        Args:
            z_RD: what the output head read; a_RD, b_RD: its rows of the best and the next token.
            gaps_R: gaps of their scores, in units of logits.
        """
        lifts_R = self.lifts(z_RD, torch.stack((a_RD, b_RD), 1))
        return torch.sigmoid(self.scale * gaps_R + lifts_R + self.offset)

    def lifts(self, z_RD: torch.Tensor, rows_R2D: torch.Tensor) -> torch.Tensor:
        """Return what the head adds to the scaled gaps, less the offset [R].

        Args:
            z_RD: what the output head read, float32.
            rows_R2D: its rows of the best and the next token.
        """
        a_RD, b_RD = rows_R2D.unbind(1)
        features_RF = torch.cat((z_RD, a_RD, b_RD, (a_RD - b_RD) * z_RD), 1)
        return F.silu(F.linear(features_RF, self.down_MF, self.bias_M)).mv(self.up_M)

    def chances(
        self, z_RD: torch.Tensor, rows_R2D: torch.Tensor, gaps: Sequence[float]
    ) -> list[float]:
        """Return the same as a call, of a row or two in less time: a draft step waits for it."""
        lifts = self.lifts(z_RD, rows_R2D).tolist()
        scale, offset = self._numbers
        return [_sigmoid(scale * g + each + offset) for g, each in zip(gaps, lifts, strict=True)]

    @cached_property
    def _numbers(self) -> tuple[float, float]:
        """Scale and offset."""
        return float(self.scale), float(self.offset)

    def to(self, device: torch.device) -> "AcceptanceHead":
        """Return the head where it is to run."""
        return AcceptanceHead(
            self.down_MF.to(device),
            self.bias_M.to(device),
            self.up_M.to(device),
            self.scale.to(device),
            self.offset.to(device),
        )


@dataclass(frozen=True)
class AcceptanceHeads:
    """Heads by exit layer E, all of one width, and the weights that they were trained for.

    weights_fingerprint: see the function of this name.
    """

    weights_fingerprint: str
    by_exit: Mapping[int, AcceptanceHead]

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Exits that have a head, ascending."""
        return tuple(sorted(self.by_exit))

    @property
    def width(self) -> int:
        """M."""
        return next(iter(self.by_exit.values())).down_MF.shape[0]

    @property
    def hidden_size(self) -> int:
        """D."""
        return next(iter(self.by_exit.values())).down_MF.shape[1] // 4

    def tell(
        self,
        z_RD: torch.Tensor,
        exit_layers: Sequence[int],
        rows_R2D: torch.Tensor,
        gaps: Sequence[float],
    ) -> list[float]:
        """Return the chances of choices read at exits, those without a head by their gaps alone.

        Args:
            z_RD: what the output head read; exit_layers: where, row by row.
            rows_R2D: the output head's rows of the best and the next tokens.
            gaps: of their scores, in units of logits.
        """
        if len(exit_layers) == 1:
            return self._tell_alike(z_RD, exit_layers[0], rows_R2D, gaps)
        told: list[float] = []
        for exit_layer, alike in groupby(exit_layers):
            own = slice(len(told), len(told) + len(list(alike)))
            told += self._tell_alike(z_RD[own], exit_layer, rows_R2D[own], gaps[own])
        return told

    def _tell_alike(
        self, z_RD: torch.Tensor, exit_layer: int, rows_R2D: torch.Tensor, gaps: Sequence[float]
    ) -> list[float]:
        head = self.by_exit.get(exit_layer)
        if head is None:
            return bare_chances(gaps)
        return head.chances(z_RD.float(), rows_R2D.float(), gaps)

    def to(self, device: torch.device) -> "AcceptanceHeads":
        """Return the heads where they are to run."""
        moved = {exit_layer: one.to(device) for exit_layer, one in self.by_exit.items()}
        return AcceptanceHeads(self.weights_fingerprint, moved)


def bare_chances(gaps: Sequence[float]) -> list[float]:
    """Return what gaps tell without a head."""
    return [_sigmoid(BARE_SCALE * gap) for gap in gaps]


def _sigmoid(value: float) -> float:
    """Return 0 where the value is no number: where every token is ruled out there is no gap."""
    if value != value:
        return 0.0
    return 1.0 / (1.0 + math.exp(-value)) if value > -MOST else 0.0
