"""LayerSkip on a Hugging Face model: layer dropout on the way up, and every exit read.

Knows the formulas only through `recipe`, and nothing of data, optimisers or files. The model's own
modules run; only the loop over its layers is ours. In training a layer is dropped whole (attention
and MLP together), per row: the kept rows are gathered with their masks and positions, run, and
scattered back, without rescaling. Evaluation runs every layer.
Shapes: B rows, T positions, D hidden, R rows of all positions (B x T), V vocabulary.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

from training.adapters import adapters_of
from training.recipe import Draws, Recipe, drop_probability, exit_weights, stage_of

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


@torch.no_grad()
def frozen_states(
    model: nn.Module, input_ids_BT: Tensor, exit_layers: Collection[int]
) -> dict[int, Tensor]:
    """x_E [B, T, D] of exits and of the last layer, by E; without norms or gradients."""
    num_layers = len(stack_of(model).layers)
    layers = {each - 1 for each in (*exit_layers, num_layers)}
    states = exit_states(model, input_ids_BT, layers, num_layers)
    return {layer + 1: state for layer, state in states.items()}


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
