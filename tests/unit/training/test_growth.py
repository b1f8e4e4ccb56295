"""A run that begins shallow fills its later layers with copies, once, at the right step."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from training.exits import exit_logits, exit_states, stack_of
from training.growth import Growth, copy_layers
from training.models import new_model
from training.recipe import Recipe, growth_step

NUM_LAYERS = 5
IDS_BT = torch.tensor([[3, 1, 4, 1, 5, 9]])


@pytest.fixture
def model() -> Any:
    """Five layers, each of its own."""
    values = {
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 32,
    }  # fmt: skip
    return new_model(values, seed=3, vocab_size=40, end_id=0)


def logits(model: Any, exit_layer: int) -> torch.Tensor:
    states = exit_states(model, IDS_BT, {exit_layer - 1}, exit_layer)
    return exit_logits(model, states[exit_layer - 1])


def test_at_scale_0_growing_changes_no_logits(model: Any) -> None:
    before = logits(model, 2)
    copy_layers(model, 2, scale=0.0)
    assert torch.equal(logits(model, NUM_LAYERS), before)


def test_new_layers_are_copies_in_turn_and_write_faintly(model: Any) -> None:
    copy_layers(model, 2, scale=0.25)
    layers = stack_of(model).layers
    for new, source in ((2, 0), (3, 1), (4, 0)):
        assert torch.equal(layers[new].mlp.up_proj.weight, layers[source].mlp.up_proj.weight)
        written = layers[source].mlp.down_proj.weight * 0.25
        assert torch.equal(layers[new].mlp.down_proj.weight, written)
        attention = layers[source].self_attn.o_proj.weight * 0.25
        assert torch.equal(layers[new].self_attn.o_proj.weight, attention)


def test_trained_layers_stay_as_they_are(model: Any) -> None:
    before = logits(model, 2)
    copy_layers(model, 2, scale=0.5)
    assert torch.equal(logits(model, 2), before)


@pytest.mark.parametrize("step", [0, 5, 6, 7, 9])
def test_a_run_grows_at_one_step_only(model: Any, tmp_path: Any, step: int) -> None:
    recipe = Recipe(NUM_LAYERS, start_layers=2, grow_at=0.6, grow_scale=0.5)
    assert growth_step(recipe, 10) == 6
    before = stack_of(model).layers[4].mlp.up_proj.weight.clone()
    state: Any = SimpleNamespace(global_step=step, max_steps=10)
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    control: Any = SimpleNamespace()
    Growth(recipe).on_step_begin(arguments, state, control, model=model)
    has_grown = not torch.equal(stack_of(model).layers[4].mlp.up_proj.weight, before)
    assert has_grown == (step == 6)


def test_a_run_of_all_layers_never_grows(model: Any, tmp_path: Any) -> None:
    before = stack_of(model).layers[4].mlp.up_proj.weight.clone()
    state: Any = SimpleNamespace(global_step=0, max_steps=10)
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])
    control: Any = SimpleNamespace()
    Growth(Recipe(NUM_LAYERS)).on_step_begin(arguments, state, control, model=model)
    assert torch.equal(stack_of(model).layers[4].mlp.up_proj.weight, before)
