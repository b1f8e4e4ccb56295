"""Shadow reads: what exits choose behind rows that pass them, though they draft nothing there.

    rows of a round or a pass      |====|====|====|====|          run on, whatever is read
    kept at exits 2, 3                  x_2  x_3
    read behind them                    adapt, draft head, choice: all rows at once

An exit is read with the very means by which it drafts, so its choice is the draft that it would
have made there. Both workers read through this. Logits live for one chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from shared.model.chances import choose_drafts
from shared.model.layer_stack import LayerStack
from shared.model.sampling import Choices, RowChoice

# Rows that the head sees at a time: 64 of a vocabulary of 128k are 32 MB of float32 logits.
HEAD_CHUNK_LEN = 64


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Raw exit states x_e [R, D] of rows that passed an exit, and what choosing for each needs."""

    exit_layer: int
    x_RD: torch.Tensor
    rows: Sequence[RowChoice]


def read_kept(stack: LayerStack, kept: Sequence[KeptRows]) -> list[Choices]:
    """Return what is chosen behind kept rows, one `Choices` for each entry, without gaps.

    It is a call of its own beside that of the drafts: a product of more rows may differ in the last
    bits, and what is drafted must not depend on what is looked at.
    """
    if not kept:
        return []
    # Neighbours at one exit share a call of its adapter.
    order = sorted(range(len(kept)), key=lambda index: kept[index].exit_layer)
    by_exit = [kept[index] for index in order]
    x_RD = torch.cat([each.x_RD for each in by_exit])
    exit_layers = [each.exit_layer for each in by_exit for _ in each.rows]
    rows = [row for each in by_exit for row in each.rows]
    chosen = _choose(stack, stack.read_exits(x_RD, exit_layers), rows, exit_layers)
    found = [Choices()] * len(kept)
    start = 0
    for index, each in zip(order, by_exit, strict=True):
        end = start + len(each.rows)
        found[index] = Choices(
            chosen.tokens[start:end],
            chosen.confidences[start:end],
            candidates=chosen.candidates[start:end],
        )
        start = end
    return found


def _choose(
    stack: LayerStack,
    z_RD: torch.Tensor,
    rows: Sequence[RowChoice],
    exit_layers: Sequence[int],
) -> Choices:
    found = Choices()
    for start in range(0, len(rows), HEAD_CHUNK_LEN):
        part = slice(start, start + HEAD_CHUNK_LEN)
        chosen = choose_drafts(stack, z_RD[part], rows[part], exit_layers[part])
        found.tokens += chosen.tokens
        found.confidences += chosen.confidences
        found.candidates += chosen.candidates
    return found
