"""A run that begins shallow: how its later layers come to be.

Knows nothing of the loss. Until the growth step the later layers are not run; at that step they
become copies of the trained ones, layer l of layer l mod start_layers, with what they write to the
residual stream scaled down, so that the model's output changes little or, at scale 0, not at all.
"""

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.exits import stack_of
from training.recipe import Recipe, growth_step


class Growth(TrainerCallback):
    """Grows the model once, before the step from which all layers run."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Copy the layers when their step has come; a resumed run comes by it once as well."""
        if self.recipe.start_layers is not None and state.global_step == growth_step(
            self.recipe, state.max_steps
        ):
            copy_layers(model, self.recipe.start_layers, self.recipe.grow_scale)


@torch.no_grad()
def copy_layers(model: nn.Module, num_trained: int, scale: float) -> None:
    """Fill the layers from num_trained on with copies of those below, faint by `scale`."""
    layers = stack_of(model).layers
    for index in range(num_trained, len(layers)):
        source = dict(layers[index % num_trained].named_parameters())
        for name, weight in layers[index].named_parameters():
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            weight.copy_(source[name] * (scale if writes else 1.0))
