"""Acceptance heads: how likely the full model is to agree with what an exit chose.

    gap      score(a) - score(b) of the two best tokens a, b of the exit, in units of logits
    chance   sigmoid( scale * gap + up . silu(down [z; w_a; w_b; T] + bias) + offset )
             z: what the output head read; w: its rows; T: temperature, 0 of greedy choices

One for each exit, as SpecDec++ trains one for a drafter (Huang et al. 2024, arXiv:2405.19715); that
it sees which two tokens compete is ours: later layers seldom do more than turn a close race. Under
noise the same gap and tokens mean something else, so the temperature is seen as well.
Chances decide how long drafts are and never the text. Knows no files. Served as `acceptance_tables`
make them. Shapes: R rows, D hidden, M width, F = 3 D + 1 features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

# Where an exit has no head: what its gap alone tells of it, the scale of `sigmoid(scale * gap)`.
BARE_SCALE = 4.0
# e to the power of more is not to be had.
MOST = 700.0


def num_features(hidden_size: int) -> int:
    """Return F, what a head sees beside the gap, for a hidden size D."""
    return 3 * hidden_size + 1


@dataclass(frozen=True)
class AcceptanceHead:
    """The head of one exit, float32: down [M, F], bias [M], up [M], scale and offset []."""

    down_MF: torch.Tensor
    bias_M: torch.Tensor
    up_M: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor

    def __call__(
        self,
        z_RD: torch.Tensor,
        a_RD: torch.Tensor,
        b_RD: torch.Tensor,
        gaps_R: torch.Tensor,
        temperatures_R: torch.Tensor,
    ) -> torch.Tensor:
        """Return chances [R].

        Args:
            z_RD: what the output head read; a_RD, b_RD: its rows of the best and the next token.
            gaps_R: gaps of their scores, in units of logits.
            temperatures_R: 0 of greedy choices.
        """
        seen_RF = torch.cat((z_RD, a_RD, b_RD, temperatures_R.unsqueeze(-1)), 1)
        lifts_R = F.silu(F.linear(seen_RF, self.down_MF, self.bias_M)).mv(self.up_M)
        return torch.sigmoid(self.scale * gaps_R + lifts_R + self.offset)

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
        return next(iter(self.by_exit.values())).down_MF.shape[1] // 3

    def to(self, device: torch.device) -> "AcceptanceHeads":
        """Return the heads where they are to run."""
        moved = {exit_layer: one.to(device) for exit_layer, one in self.by_exit.items()}
        return AcceptanceHeads(self.weights_fingerprint, moved)


def bare_chances(gaps: Sequence[float]) -> list[float]:
    """Return what gaps tell without a head."""
    return [chance_of(BARE_SCALE * gap) for gap in gaps]


def chance_of(logit: float) -> float:
    """Return the sigmoid; 0 of what is no number: where all tokens are ruled out is no gap."""
    if logit != logit:
        return 0.0
    return 1.0 / (1.0 + math.exp(-logit)) if logit > -MOST else 0.0
