"""Acceptance heads in training, and the frozen model that they are for.

    features   [z; w_a; w_b; T]
    logit      scale * gap + up . silu(down standard(features) + bias) + offset
    standard   (features - mean) / deviation, over the first rows of the run

The same maths as `shared.model.acceptance_heads` once `standard` is folded into down and bias. A
head begins as the gap alone (up 0, scale BARE_SCALE, offset 0). Shapes: R rows, D hidden, M width,
F = 3 D + 1 features.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.model.acceptance_head_file import parts_of
from shared.model.acceptance_heads import (
    BARE_SCALE,
    AcceptanceHead,
    AcceptanceHeads,
    num_features,
)
from shared.model.exit_adapters import ExitAdapters
from training.errors import TrainingError
from training.exits import frozen_states, head_of, stack_of
from training.sections import AcceptanceSection

MIN_DEVIATION = 1e-4
"""Features that vary less are not blown up."""
GAIN = 16.0
"""Steps of scale and offset are so many times those of other weights: where the gap says little, as
at shallow exits, the scale has far to go."""


class TrainableHead(nn.Module):
    """The head of one exit."""

    mean_F: Tensor
    deviation_F: Tensor

    def __init__(
        self, hidden_size: int, width: int, dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(width, num_features(hidden_size)))
        self.bias = nn.Parameter(torch.zeros(width))
        self.up = nn.Parameter(torch.zeros(width))
        self.scale_step = nn.Parameter(torch.tensor(0.0))
        self.offset_step = nn.Parameter(torch.tensor(0.0))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean_F", torch.zeros(num_features(hidden_size)))
        self.register_buffer("deviation_F", torch.ones(num_features(hidden_size)))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5), generator=generator)

    def forward(self, features_RF: Tensor, gaps_R: Tensor) -> Tensor:
        """Logits of acceptance [R]."""
        standard_RF = (features_RF - self.mean_F) / self.deviation_F
        hidden_RM = F.silu(F.linear(self.dropout(standard_RF), self.down, self.bias))
        by_hidden_R = self.dropout(hidden_RM) @ self.up
        return self.scale * gaps_R + by_hidden_R + self.offset

    @property
    def scale(self) -> Tensor:
        """What the gap is multiplied by."""
        return BARE_SCALE + GAIN * self.scale_step

    @property
    def offset(self) -> Tensor:
        """What is added for every row."""
        return GAIN * self.offset_step

    @torch.no_grad()
    def standardise(self, features_RF: Tensor) -> None:
        """Take mean and deviation from these features."""
        self.mean_F.copy_(features_RF.mean(0))
        self.deviation_F.copy_(features_RF.std(0, correction=0).clamp_min(MIN_DEVIATION))

    @torch.no_grad()
    def folded(self) -> AcceptanceHead:
        """The head as it is served: down and bias take features as they come.

        What never varied says nothing, whatever it will be: the temperature, if all was greedy.
        """
        varied_F = self.deviation_F > MIN_DEVIATION
        down_MF = torch.where(varied_F, self.down / self.deviation_F, 0.0)
        bias_M = self.bias - down_MF @ self.mean_F
        return AcceptanceHead(down_MF, bias_M, self.up, self.scale, self.offset)


class HeadsOfModel(nn.Module):
    """Heads by exit, and their frozen model, which is no part of their state."""

    def __init__(
        self,
        base: Any,
        exits: Sequence[int],
        section: AcceptanceSection,
        adapters: ExitAdapters | None,
        seed: int,
    ) -> None:
        """Make fresh heads.

        Args:
            base: the model.
            exits: exit layers that get a head.
            section: sizes of the heads, and how tokens are chosen.
            adapters: what exits are read through, where drafts read them so.
            seed: of the heads' first weights.
        """
        super().__init__()
        self.section = section
        generator = torch.Generator().manual_seed(seed)
        self.heads = nn.ModuleDict(
            {
                str(each): TrainableHead(
                    base.config.hidden_size, section.width, section.dropout, generator
                )
                for each in exits
            }
        )
        # In a list: a submodule would be wrapped, moved, trained and kept in checkpoints.
        self._frozen = [base.requires_grad_(False).eval()]
        self._adapters = adapters and adapters.to(base.device, torch.float32)

    @property
    def base(self) -> Any:
        """The model."""
        return self._frozen[0]

    @property
    def exits(self) -> tuple[int, ...]:
        """Exit layers that have a head, ascending."""
        return tuple(sorted(int(name) for name in self.heads))

    def head(self, exit_layer: int) -> TrainableHead:
        """The head of an exit."""
        found = self.heads[str(exit_layer)]
        assert isinstance(found, TrainableHead)
        return found

    def served(self, weights_fingerprint: str) -> AcceptanceHeads:
        """The heads as they are read from their file: folded, and rounded to its type.

        Raises:
            TrainingError: the type is too narrow for a value.
        """
        dtype: torch.dtype = getattr(torch, self.section.store_dtype)
        by_exit = {}
        for each in self.exits:
            parts = [one.detach().to(dtype).float() for one in parts_of(self.head(each).folded())]
            if not all(part.isfinite().all() for part in parts):
                raise TrainingError(
                    f"the head of exit {each} has values beyond {self.section.store_dtype}; set"
                    " acceptance.store_dtype=float32"
                )
            by_exit[each] = AcceptanceHead(*parts)
        return AcceptanceHeads(weights_fingerprint, by_exit)

    def base_states(self, input_ids_BT: Tensor) -> dict[int, Tensor]:
        """x_E [B, T, D] of the heads' exits and of the last layer, by E; without norms."""
        return frozen_states(self.base, input_ids_BT, self.exits)

    @torch.no_grad()
    def read(self, x_RD: Tensor, exit_layer: int) -> Tensor:
        """z [R, D]: what the output head reads of an exit, or of the last layer."""
        adapter = self._adapters.by_exit.get(exit_layer) if self._adapters else None
        z_RD: Tensor = stack_of(self.base).norm(x_RD if adapter is None else adapter(x_RD))
        return z_RD

    def logits(self, z_RD: Tensor) -> Tensor:
        """Scores of all tokens [R, V], float32."""
        logits_RV: Tensor = head_of(self.base)(z_RD)
        return logits_RV.float()

    def rows_of(self, ids_R: Tensor) -> Tensor:
        """Rows of the output head [R, D]."""
        rows_RD: Tensor = head_of(self.base).weight[ids_R]
        return rows_RD


def features_of(z_RD: Tensor, a_RD: Tensor, b_RD: Tensor, temperatures_R: Tensor) -> Tensor:
    """What a head sees beside the gap, [R, F]."""
    return torch.cat((z_RD, a_RD, b_RD, temperatures_R.unsqueeze(-1)), -1)
