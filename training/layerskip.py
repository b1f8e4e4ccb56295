"""LayerSkip on a Llama stack: layer dropout on the way up, a loss at every exit.

Knows the formulas only through `recipe`, and nothing of data, optimisers or files. In training a
layer is dropped whole (attention and MLP together), per row: the kept rows are gathered with
their masks and positions, run, and scattered back, without rescaling. Evaluation runs every layer.
Shapes: B rows, T positions, D hidden, R rows of all positions (B x T), V vocabulary.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model import Context, Llama
from training.recipe import Draws, Recipe, drop_probability, exit_weights

HEAD_ROWS = 512
"""Rows that get their logits at once: HEAD_ROWS x V floats are alive, whatever the batch."""


@dataclass(frozen=True)
class Batch:
    """Tokens and what follows them: int64, both [B, T]; mask is None for plain causal rows."""

    tokens_BT: Tensor
    targets_BT: Tensor
    mask_BTT: Tensor | None = None


@dataclass(frozen=True)
class Dropout:
    """Which rows skip which layers: a draw for each layer and row, a probability for each layer."""

    draws: Draws
    probabilities: Sequence[float]

    def kept_rows(self, layer: int, num_rows: int) -> Sequence[int]:
        """Rows that run the layer."""
        return self.draws.kept_rows(layer, num_rows, self.probabilities[layer])


def dropout_of(recipe: Recipe, draws: Draws, num_steps: int) -> Dropout:
    """The dropout of one micro-batch."""
    layers = range(recipe.num_layers)
    return Dropout(draws, [drop_probability(recipe, i, draws.step, num_steps) for i in layers])


def exit_states(
    model: Llama, batch: Batch, exits: Collection[int], dropout: Dropout | None = None
) -> dict[int, Tensor]:
    """Run the stack and keep x_{l+1}, without norm, for the layers l in `exits`.

    The state is taken after the layer. The one before it would leave the last layer out of the
    loss altogether.
    """
    num_rows, num_positions = batch.tokens_BT.shape
    positions_BT = torch.arange(num_positions).expand(num_rows, -1)
    context = model.context(positions_BT, batch.mask_BTT)
    x_BTD = model.embed(batch.tokens_BT)
    states: dict[int, Tensor] = {}
    for layer, block in enumerate(model.layers):
        kept = range(num_rows) if dropout is None else dropout.kept_rows(layer, num_rows)
        x_BTD = run_rows(block, x_BTD, context, kept)
        if layer in exits:
            states[layer] = x_BTD
    return states


def run_rows(block: nn.Module, x_BTD: Tensor, context: Context, kept: Sequence[int]) -> Tensor:
    """Run a block on the kept rows; the others pass by unchanged."""
    if len(kept) == len(x_BTD):
        x_BTD = block(x_BTD, context)
        return x_BTD
    if not kept:
        return x_BTD
    rows = torch.tensor(kept, device=x_BTD.device)
    return x_BTD.index_copy(0, rows, block(x_BTD[rows], context.select(rows)))


def backward(
    model: Llama,
    batch: Batch,
    recipe: Recipe,
    draws: Draws,
    num_steps: int,
    num_micro_batches: int = 1,
) -> dict[int, float]:
    """Add the gradients of J(t) of one micro-batch; return the cross-entropy of each exit.

    J(t) is the sum of w(t,l) CE(g(x_{l+1}), targets), divided by the number of micro-batches. The
    head runs one exit at a time, in chunks of rows, and its gradient is taken at once, so the
    logits of two exits are never alive together; the layers' gradients follow in one pass.
    """
    weights = exit_weights(recipe, draws.step, num_steps)
    dropout = dropout_of(recipe, draws, num_steps)
    states = exit_states(model, batch, weights, dropout)
    losses, gradients = _head_backward(model, states, batch.targets_BT, weights, num_micro_batches)
    torch.autograd.backward([states[layer] for layer in weights], gradients)
    return losses


def _head_backward(
    model: Llama,
    states: Mapping[int, Tensor],
    targets_BT: Tensor,
    weights: Mapping[int, float],
    num_micro_batches: int,
) -> tuple[dict[int, float], list[Tensor]]:
    """Gradients of norm and head, and of each exit state; the losses beside them."""
    losses: dict[int, float] = {}
    gradients: list[Tensor] = []
    for layer, weight in weights.items():
        leaf = states[layer].detach().requires_grad_()
        losses[layer] = 0.0
        for loss in chunked_losses(model, leaf, targets_BT):
            torch.autograd.backward(loss * (weight / num_micro_batches))
            losses[layer] += loss.item()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    return losses, gradients


def chunked_losses(model: Llama, states_BTD: Tensor, targets_BT: Tensor) -> Iterator[Tensor]:
    """Yield the parts of the mean cross-entropy of one exit, a chunk of rows at a time."""
    states_RD, targets_R = states_BTD.flatten(0, 1), targets_BT.flatten()
    chunks = zip(torch.split(states_RD, HEAD_ROWS), torch.split(targets_R, HEAD_ROWS), strict=True)
    for states, targets in chunks:
        yield F.cross_entropy(model.logits(states), targets, reduction="sum") / len(targets_R)
