"""What an acceptance head learns: to give what an exit chose the chance that the model agrees.

    loss = - sum_t M_t (y_t log c_t + (1 - y_t) log(1 - c_t)) / sum_t M_t

y_t is 1 where exit and model choose the same token at position t. M_t = 1 where the token behind
position t is one that the model has to produce, as labels say.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.acceptance.head import HeadsOfModel
from training.acceptance.looks import Look


def head_losses(
    model: HeadsOfModel, looks: Mapping[int, Look], num_items: Tensor | int | None = None
) -> dict[str, Any]:
    """The loss of a micro-batch: the sum over the heads, none of which depends on another.

    Each is the sum over the positions that count, divided by num_items, their number in all
    micro-batches of the step (by default those of this one).

    Returns:
        `loss` to be differentiated, and `exit_losses`: detached losses by exit layer.
    """
    num_positions = len(next(iter(looks.values())).gaps_R)
    scale = 1.0 / (num_items if num_items is not None else num_positions)
    losses = {
        each: F.binary_cross_entropy_with_logits(
            model.head(each)(seen.features(model), seen.gaps_R).float(),
            seen.agrees_R.float(),
            reduction="sum",
        )
        * scale
        for each, seen in looks.items()
    }
    return {
        "loss": torch.stack(list(losses.values())).sum(),
        "exit_losses": {each: loss.detach() for each, loss in losses.items()},
    }
