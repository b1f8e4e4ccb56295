"""LayerSkip on a Hugging Face model: layer dropout on the way up, a loss at every exit.

Knows the formulas only through `recipe`, and nothing of data, optimisers or files. The model's own
modules run; only the loop over its layers is ours. In training a layer is dropped whole (attention
and MLP together), per row: the kept rows are gathered with their masks and positions, run, and
scattered back, without rescaling. Evaluation runs every layer.
Shapes: B rows, T positions, D hidden, R rows of all positions (B x T), V vocabulary.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from training.adapters import adapters_of
from training.recipe import Draws, Recipe, drop_probability, exit_weights, stage_of
from training.rows import IGNORED

HEAD_ROWS = 2048
"""Rows that get their logits at once: HEAD_ROWS x V floats are alive, whatever the batch."""


@dataclass(frozen=True)
class Dropout:
    """Which rows skip which layers: a draw for each layer and row, a probability for each layer."""

    draws: Draws
    probabilities: Sequence[float]

    def kept_rows(self, layer: int, num_rows: int) -> Sequence[int]:
        """Rows that run the layer."""
        return self.draws.kept_rows(layer, num_rows, self.probabilities[layer])


@dataclass(frozen=True)
class StepPlan:
    """What the recipe asks of one micro-batch.

    Attributes:
        num_layers: layers that exist at this step; the output of the last is the model's.
        weights: w(t,l) of the exits that count, by layer; the last one is always there.
        exit_distillation, base_distillation: as in the recipe.
    """

    num_layers: int
    weights: Mapping[int, float]
    dropout: Dropout | None = None
    exit_distillation: float = 0.0
    base_distillation: float = 0.0


def plan_step(recipe: Recipe, draws: Draws, num_steps: int) -> StepPlan:
    """The plan of a micro-batch, a pure function of recipe and step."""
    stage = stage_of(recipe, draws.step, num_steps)
    layers = range(stage.num_layers)
    probabilities = [drop_probability(stage, layer, draws.step, num_steps) for layer in layers]
    return StepPlan(
        num_layers=stage.num_layers,
        weights=exit_weights(stage, draws.step, num_steps),
        dropout=Dropout(draws, probabilities),
        exit_distillation=recipe.exit_distillation,
        base_distillation=recipe.base_distillation,
    )


class Context(NamedTuple):
    """What a layer needs beside the states; masks may be None for plain causal rows."""

    positions_BT: Tensor
    cos_BTH: Tensor
    sin_BTH: Tensor
    masks: Mapping[str, Tensor | None]

    def select(self, rows: Tensor) -> "Context":
        """The context of some of the rows."""
        masks = {name: None if mask is None else mask[rows] for name, mask in self.masks.items()}
        return Context(self.positions_BT[rows], self.cos_BTH[rows], self.sin_BTH[rows], masks)


def stack_of(model: nn.Module) -> Any:
    """The module with embedding, layers and norm, below adapters and heads."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.model


def head_of(model: nn.Module) -> Any:
    """The output head of a causal language model."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.lm_head


def context_of(stack: Any, x_BTD: Tensor, attention_mask_BT: Tensor | None) -> Context:
    """Positions, rotations and masks; transformers makes the masks, as in its own forward."""
    num_rows, num_positions, _ = x_BTD.shape
    positions_BT = torch.arange(num_positions, device=x_BTD.device).expand(num_rows, -1)
    cos_BTH, sin_BTH = stack.rotary_emb(x_BTD, positions_BT)
    kinds = set(_mask_kinds(stack.config))
    makers = {
        "full_attention": create_causal_mask,
        "sliding_attention": create_sliding_window_causal_mask,
    }
    masks = {
        kind: makers[kind](
            config=stack.config,
            inputs_embeds=x_BTD,
            attention_mask=attention_mask_BT,
            past_key_values=None,
            position_ids=positions_BT,
        )
        for kind in kinds
    }
    return Context(positions_BT, cos_BTH, sin_BTH, masks)


def _mask_kinds(config: Any) -> list[str]:
    """The mask of each layer, by name."""
    if getattr(config, "layer_types", None):
        return list(config.layer_types)
    windowed = getattr(config, "sliding_window", None) is not None
    return ["sliding_attention" if windowed else "full_attention"] * config.num_hidden_layers


def exit_states(
    model: nn.Module,
    input_ids_BT: Tensor,
    exits: Collection[int],
    num_layers: int,
    dropout: Dropout | None = None,
    attention_mask_BT: Tensor | None = None,
) -> dict[int, Tensor]:
    """Run the first num_layers layers and keep x_{l+1}, without norm, for the layers l in `exits`.

    The state is taken after the layer. The one before it would leave the last layer out of the
    loss altogether.
    """
    stack = stack_of(model)
    x_BTD = stack.embed_tokens(input_ids_BT)
    context = context_of(stack, x_BTD, attention_mask_BT)
    kinds, num_rows = _mask_kinds(stack.config), len(input_ids_BT)
    states: dict[int, Tensor] = {}
    for index, layer in enumerate(stack.layers[:num_layers]):
        kept = range(num_rows) if dropout is None else dropout.kept_rows(index, num_rows)
        x_BTD = run_rows(layer, x_BTD, context, kinds[index], kept)
        if index in exits:
            states[index] = x_BTD
    return states


def run_rows(
    layer: nn.Module, x_BTD: Tensor, context: Context, kind: str, kept: Sequence[int]
) -> Tensor:
    """Run a layer on the kept rows; the others pass by unchanged."""
    if len(kept) == len(x_BTD):
        return run_layer(layer, x_BTD, context, kind)
    if not kept:
        return x_BTD
    rows = torch.tensor(kept, device=x_BTD.device)
    return x_BTD.index_copy(0, rows, run_layer(layer, x_BTD[rows], context.select(rows), kind))


def run_layer(layer: nn.Module, x_BTD: Tensor, context: Context, kind: str) -> Tensor:
    """One layer of the model, in its own code."""
    out_BTD: Tensor = layer(
        x_BTD,
        attention_mask=context.masks[kind],
        position_ids=context.positions_BT,
        position_embeddings=(context.cos_BTH, context.sin_BTH),
    )
    return out_BTD


def exit_logits(model: nn.Module, states_RD: Tensor, layer: int | None = None) -> Tensor:
    """g: final norm, then head; the same for every exit. Float32 [R, V].

    With a layer given its exit is read through its adapter, where the model is trained with one.
    """
    adapters = adapters_of(model)
    if adapters is not None and layer is not None:
        states_RD = adapters.read(states_RD, layer + 1)
    logits_RV: Tensor = head_of(model)(stack_of(model).norm(states_RD))
    return logits_RV.float()


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
    teacher_RD = states[last].detach().flatten(0, 1)
    share = plan.exit_distillation / max(1, len(weights.keys() - {last}))
    adapters = adapters_of(model)
    total: Any = 0.0 if weights or adapters is None else adapters.zero()
    found: dict[int, Tensor] = {}
    for layer, weight in weights.items():
        taught_by = (model, teacher_RD) if share and layer != last else None
        chunks = _chunks(layer, states[layer], labels_R)
        sums = [_checkpointed(model, chunk, taught_by) for chunk in chunks]
        cross_entropy = torch.stack([pair[0] for pair in sums]).sum() * scale
        total = total + weight * cross_entropy
        if taught_by:
            total = total + share * torch.stack([pair[1] for pair in sums]).sum() * scale
        found[layer] = cross_entropy.detach()
    if base_model is not None and plan.base_distillation:
        base_RD = _base_states(base_model, input_ids, attention_mask)
        sums = [
            _checkpointed(model, chunk, (base_model, base_RD))[1]
            for chunk in _chunks(last, states[last], labels_R)
        ]
        total = total + plan.base_distillation * torch.stack(sums).sum() * scale
    return {"loss": total, "exit_losses": found}


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


def _checkpointed(
    model: nn.Module, chunk: Chunk, taught_by: tuple[nn.Module, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Summed losses of a chunk; its logits are made again for the gradient, not kept."""
    pair: tuple[Tensor, Tensor] = checkpoint(
        _chunk_losses, model, chunk, taught_by, use_reentrant=False, preserve_rng_state=False
    )
    return pair


def _chunk_losses(
    model: nn.Module, chunk: Chunk, taught_by: tuple[nn.Module, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Sums over learnt rows: cross-entropy, and the divergence from a teacher (0 without one)."""
    logits_RV = exit_logits(model, chunk.states_RD, chunk.layer)
    cross_entropy = F.cross_entropy(
        logits_RV, chunk.labels_R, ignore_index=IGNORED, reduction="sum"
    )
    if taught_by is None:
        return cross_entropy, cross_entropy.new_zeros(())
    teacher, teacher_RD = taught_by
    with torch.no_grad():
        wanted_RV = F.log_softmax(exit_logits(teacher, teacher_RD[chunk.rows]), dim=-1)
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
