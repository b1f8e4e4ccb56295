"""Acceptance heads as they are served: what they make of tokens is looked up.

    down [z; w_a; w_b; T] + bias  =  down_z z + best[a] + next[b] + T warmth

    best    down_a w_v + bias, of every token v
    next    down_b w_v

A draft step waits for this, so of what a head does only a product with z is left. It costs
2 V M numbers for each exit. Shapes: R rows, D hidden, M width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F

from shared.ids import TokenId
from shared.model.acceptance_heads import (
    AcceptanceHead,
    AcceptanceHeads,
    bare_chances,
    chance_of,
)

# Tokens whose rows are read at a time while tables are made: rows of large models come as bfloat16.
TOKENS_AT_ONCE = 8192

Pair = tuple[TokenId, TokenId]


@dataclass(frozen=True)
class _Table:
    """The head of one exit, float32: down [D, M], best and next [V, M], warmth and up [M]."""

    down_DM: torch.Tensor
    best_VM: torch.Tensor
    next_VM: torch.Tensor
    warmth_M: torch.Tensor
    up_M: torch.Tensor
    scale: float
    offset: float

    def chances(
        self,
        z_RD: torch.Tensor,
        pairs: Sequence[Pair],
        gaps: Sequence[float],
        temperatures: Sequence[float],
    ) -> list[float]:
        best_RM, next_RM = self._look_up(pairs)
        inner_RM = torch.addmm(best_RM, z_RD, self.down_DM).add_(next_RM)
        if any(temperatures):
            warm_R1 = torch.tensor(temperatures, device=z_RD.device).unsqueeze(-1)
            inner_RM.addcmul_(warm_R1, self.warmth_M)
        lifts = F.silu(inner_RM).mv(self.up_M).tolist()
        told = zip(gaps, lifts, strict=True)
        return [chance_of(self.scale * gap + lift + self.offset) for gap, lift in told]

    def _look_up(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(pairs) == 1:
            ((a, b),) = pairs
            return self.best_VM[a : a + 1], self.next_VM[b : b + 1]
        a_R, b_R = torch.tensor(pairs, device=self.up_M.device).unbind(1)
        return self.best_VM.index_select(0, a_R), self.next_VM.index_select(0, b_R)


class AcceptanceTables:
    """The heads of a model in tables, by exit layer."""

    def __init__(self, heads: AcceptanceHeads, token_rows_VD: torch.Tensor) -> None:
        """Make them, on the device of the rows.

        Args:
            heads: of the model's exits.
            token_rows_VD: the output head's rows.
        """
        self._by_exit: Mapping[int, _Table] = {
            exit_layer: _table_of(head.to(token_rows_VD.device), token_rows_VD)
            for exit_layer, head in heads.by_exit.items()
        }

    def chances(
        self,
        z_RD: torch.Tensor,
        exit_layers: Sequence[int],
        pairs: Sequence[Pair],
        gaps: Sequence[float],
        temperatures: Sequence[float],
    ) -> list[float]:
        """Return the chances of choices read at exits, those without a head by their gaps alone.

        Args:
            z_RD: what the output head read; exit_layers: where, row by row.
            pairs: the best and the next token of each row.
            gaps: of their scores, in units of logits.
            temperatures: 0 of greedy choices.
        """
        told: list[float] = []
        for exit_layer, alike in groupby(exit_layers):
            own = slice(len(told), len(told) + len(list(alike)))
            table = self._by_exit.get(exit_layer)
            if table is None:
                told += bare_chances(gaps[own])
            else:
                told += table.chances(z_RD[own].float(), pairs[own], gaps[own], temperatures[own])
        return told


def _table_of(head: AcceptanceHead, token_rows_VD: torch.Tensor) -> _Table:
    size = token_rows_VD.shape[1]
    down_z_MD, down_a_MD, down_b_MD, warmth_M1 = head.down_MF.split((size, size, size, 1), 1)
    chunks = token_rows_VD.split(TOKENS_AT_ONCE)
    return _Table(
        down_z_MD.t().contiguous(),
        torch.cat([F.linear(rows.float(), down_a_MD, head.bias_M) for rows in chunks]),
        torch.cat([F.linear(rows.float(), down_b_MD) for rows in chunks]),
        warmth_M1.squeeze(-1).contiguous(),
        head.up_M,
        float(head.scale),
        float(head.offset),
    )
