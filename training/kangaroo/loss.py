"""What a draft adapter learns: to say at every position what the last layer says there.

    p_t = softmax(head(norm(x_L,t)))        the frozen model, temperature 1
    q_t = softmax(head(z_t))                through the adapter
    loss = - sum_t M_t sum_v p_t(v) log q_t(v) / sum_t M_t

Same position on both sides: nothing is shifted. M_t = 1 where the token behind position t is one
that the model has to produce: labels, which are shifted already, say so. Logits live for one chunk
of rows and are made again for the gradient. Shapes: R rows, D hidden, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.exits import HEAD_ROWS, exit_logits, head_of
from training.kangaroo.adapter import AdaptersOfModel
from training.rows import IGNORED


def soft_cross_entropy(p_RV: Tensor, logits_RV: Tensor) -> Tensor:
    """- sum_v p(v) log q(v), [R]; q is the softmax of the logits."""
    return -(p_RV * F.log_softmax(logits_RV, -1)).sum(-1)


def adapter_losses(
    model: AdaptersOfModel,
    input_ids: Tensor,
    labels: Tensor,
    num_items: Tensor | int | None = None,
) -> dict[str, Any]:
    """The loss of a micro-batch: the sum over the adapters, none of which depends on another.

    Each is the sum over the positions that count, divided by num_items, their number in all
    micro-batches of the step (by default those of this one).

    Returns:
        `loss` to be differentiated, and `exit_losses`: detached losses by exit layer.
    """
    states = model.base_states(input_ids)
    z_by_exit = {each: z.flatten(0, 1) for each, z in model.read(states).items()}
    last_RD = states[max(states)].flatten(0, 1)
    counts_R = labels.flatten() != IGNORED
    scale = 1.0 / (num_items if num_items is not None else counts_R.sum())
    chunks = [
        checkpoint(
            _chunk_losses,
            model.base,
            {each: z_RD[rows] for each, z_RD in z_by_exit.items()},
            last_RD[rows],
            counts_R[rows],
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for rows in _row_slices(len(counts_R))
    ]
    losses = torch.stack(chunks).sum(0) * scale
    return {
        "loss": losses.sum(),
        "exit_losses": dict(zip(z_by_exit, losses.detach(), strict=True)),
    }


def _row_slices(num_rows: int) -> list[slice]:
    return [slice(first, first + HEAD_ROWS) for first in range(0, num_rows, HEAD_ROWS)]


def _chunk_losses(
    base: nn.Module, z_by_exit: Mapping[int, Tensor], last_RD: Tensor, counts_R: Tensor
) -> Tensor:
    """Summed losses by exit over the rows that count."""
    with torch.no_grad():
        p_RV = F.softmax(exit_logits(base, last_RD), -1)
    head = head_of(base)
    sums = [
        (soft_cross_entropy(p_RV, head(z_RD).float()) * counts_R).sum()
        for z_RD in z_by_exit.values()
    ]
    return torch.stack(sums)
