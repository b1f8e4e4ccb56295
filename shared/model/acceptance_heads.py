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
from itertools import groupby

import torch
import torch.nn.functional as F

# Where an exit has no head: what its gap alone tells of it, the scale of `sigmoid(scale * gap)`.
BARE_SCALE = 4.0


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
        features_RF = torch.cat((z_RD, a_RD, b_RD, (a_RD - b_RD) * z_RD), -1)
        hidden_RM = F.silu(torch.addmm(self.bias_M, features_RF, self.down_MF.t()))
        return torch.sigmoid(self.scale * gaps_R + hidden_RM @ self.up_M + self.offset)

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
        rows_2RD: torch.Tensor,
        gaps: Sequence[float],
    ) -> list[float]:
        """Return the chances of choices read at exits, those without a head by their gaps alone.

        Args:
            z_RD: what the output head read; exit_layers: where, row by row.
            rows_2RD: the output head's rows of the best tokens, and of the next ones.
            gaps: of their scores, in units of logits.
        """
        told = bare_chances(gaps)
        start = 0
        for exit_layer, alike in groupby(exit_layers):
            end = start + len(list(alike))
            head = self.by_exit.get(exit_layer)
            if head is not None:
                a_RD, b_RD = rows_2RD[:, start:end].float()
                gaps_R = torch.tensor(gaps[start:end], device=z_RD.device)
                chances_R = head(z_RD[start:end].float(), a_RD, b_RD, gaps_R)
                # Where every token is ruled out there is no gap, and no chance.
                told[start:end] = chances_R.nan_to_num(nan=0.0).tolist()
            start = end
        return told

    def to(self, device: torch.device) -> "AcceptanceHeads":
        """Return the heads where they are to run."""
        moved = {exit_layer: one.to(device) for exit_layer, one in self.by_exit.items()}
        return AcceptanceHeads(self.weights_fingerprint, moved)


def bare_chances(gaps: Sequence[float]) -> list[float]:
    """Return what gaps tell without a head; 0 where one is no number."""
    return [
        0.0 if math.isnan(gap) else 1.0 / (1.0 + math.exp(-min(BARE_SCALE * gap, 700.0)))
        for gap in gaps
    ]
