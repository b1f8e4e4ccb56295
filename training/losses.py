"""J(t): the loss of LayerSkip over the exits of a micro-batch, and what is distilled beside it.

Knows the exits through `exits`, and nothing of data or optimisers. The head runs one exit at a
time, in chunks of rows, and its logits are made again for the gradient: memory grows neither with
the exits nor with the batch. Shapes: B rows, T positions, R = B x T, D hidden, V vocabulary.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.adapters import adapters_of
from training.exits import HEAD_ROWS, StepPlan, exit_logits, exit_states, stack_of
from training.rows import IGNORED

Teacher = tuple[nn.Module, Tensor]
"""A model and its last states of all rows, [R, D]."""


def trained_weights(model: nn.Module, plan: StepPlan) -> Mapping[int, float]:
    """w(t,l) of the exits that learn: all; in a frozen model those with an adapter."""
    adapters = adapters_of(model)
    if adapters is None:
        return plan.weights
    return {layer: weight for layer, weight in plan.weights.items() if str(layer + 1) in adapters}


def exit_losses(
    model: nn.Module,
    input_ids: Tensor,
    labels: Tensor,
    plan: StepPlan,
    num_items: Tensor | int | None = None,
    attention_mask: Tensor | None = None,
    base_model: nn.Module | None = None,
) -> dict[str, Any]:
    """J(t) of a micro-batch, and the cross-entropy of its exits.

    J(t) = sum over l of w(t,l) CE(g(x_{l+1}), labels), plus what is distilled. CE is the mean over
    learnt tokens: the sum over those of this micro-batch divided by num_items, the number in all
    micro-batches of the step (by default those of this one). Terms of a frozen model that have no
    gradient, the last layer's above all, are left out.

    Returns:
        `loss` to be differentiated, and `exit_losses`: detached cross-entropies by layer.
    """
    last = plan.num_layers - 1
    weights = trained_weights(model, plan)
    states = exit_states(
        model, input_ids, {*weights, last}, plan.num_layers, plan.dropout, attention_mask
    )
    labels_R = labels.flatten()
    scale = 1.0 / (num_items if num_items is not None else (labels_R != IGNORED).sum())
    last_layer = (model, states[last].detach().flatten(0, 1))
    share = plan.exit_distillation / max(1, len(weights.keys() - {last}))
    total, found = _nothing(model, weights), {}
    for layer, weight in weights.items():
        teacher = last_layer if share and layer != last else None
        rows = _chunks(layer, states[layer], labels_R)
        cross_entropy, divergence = _mean_losses(model, rows, scale, teacher)
        total = total + weight * cross_entropy + share * divergence
        found[layer] = cross_entropy.detach()
    if base_model is not None and plan.base_distillation:
        base = (base_model, _base_states(base_model, input_ids, attention_mask))
        rows = _chunks(last, states[last], labels_R)
        total = total + plan.base_distillation * _mean_losses(model, rows, scale, base)[1]
    return {"loss": total, "exit_losses": found}


def _nothing(model: nn.Module, weights: Mapping[int, float]) -> Any:
    """Zero to add losses to; one with a gradient where no exit of a frozen model learns."""
    adapters = adapters_of(model)
    return 0.0 if weights or adapters is None else adapters.zero()


def _mean_losses(
    model: nn.Module, chunks: Iterator["Chunk"], scale: Any, teacher: Teacher | None
) -> list[Tensor]:
    """Cross-entropy of an exit, and its divergence from the teacher, per learnt token."""
    pairs = [_checkpointed(model, chunk, teacher) for chunk in chunks]
    return [torch.stack(sums).sum() * scale for sums in zip(*pairs, strict=True)]


class Chunk(NamedTuple):
    """Some rows of one exit: states [R, D], labels [R], and where they lie among all rows."""

    layer: int
    states_RD: Tensor
    labels_R: Tensor
    rows: slice


def _chunks(layer: int, states_BTD: Tensor, labels_R: Tensor) -> Iterator[Chunk]:
    states_RD = states_BTD.flatten(0, 1)
    for first in range(0, len(labels_R), HEAD_ROWS):
        rows = slice(first, first + HEAD_ROWS)
        yield Chunk(layer, states_RD[rows], labels_R[rows], rows)


def _checkpointed(model: nn.Module, chunk: Chunk, teacher: Teacher | None) -> tuple[Tensor, Tensor]:
    """Summed losses of a chunk; its logits are made again for the gradient, not kept."""
    pair: tuple[Tensor, Tensor] = checkpoint(
        _chunk_losses, model, chunk, teacher, use_reentrant=False, preserve_rng_state=False
    )
    return pair


def _chunk_losses(model: nn.Module, chunk: Chunk, teacher: Teacher | None) -> tuple[Tensor, Tensor]:
    """Sums over learnt rows: cross-entropy, and the divergence from a teacher (0 without one)."""
    logits_RV = exit_logits(model, chunk.states_RD, chunk.layer)
    cross_entropy = F.cross_entropy(
        logits_RV, chunk.labels_R, ignore_index=IGNORED, reduction="sum"
    )
    if teacher is None:
        return cross_entropy, cross_entropy.new_zeros(())
    teaching_model, states_RD = teacher
    with torch.no_grad():
        wanted_RV = F.log_softmax(exit_logits(teaching_model, states_RD[chunk.rows]), dim=-1)
    given_RV = F.log_softmax(logits_RV, dim=-1)
    divergence_RV = F.kl_div(given_RV, wanted_RV, reduction="none", log_target=True)
    learnt_R = (chunk.labels_R != IGNORED).float()
    return cross_entropy, (divergence_RV.sum(-1) * learnt_R).sum()


@torch.no_grad()
def _base_states(base_model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Last states of the model that the run began with, [R, D]."""
    last = len(stack_of(base_model).layers) - 1
    states = exit_states(base_model, input_ids, {last}, last + 1, None, attention_mask)
    return states[last].flatten(0, 1)
