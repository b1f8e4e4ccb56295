"""Layer dropout and the early-exit loss on a small model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.layerskip import Batch, Dropout, backward, dropout_of, exit_states
from training.model import Llama, ModelShape
from training.recipe import Draws, Recipe

NUM_LAYERS = 4
LAST = NUM_LAYERS - 1


@pytest.fixture
def model(shape: ModelShape) -> Llama:
    """A random model with weights large enough for every layer to matter."""
    model = Llama(shape, seed=5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(4)
    return model


def random_batch(num_rows: int = 6, row_len: int = 12, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(96, (num_rows, row_len + 1), generator=generator)
    return Batch(tokens[:, :-1], tokens[:, 1:])


@dataclass(frozen=True)
class FixedDropout(Dropout):
    """Drops the rows that a test names."""

    kept_by_layer: dict[int, list[int]]

    def kept_rows(self, layer: int, num_rows: int) -> Sequence[int]:
        return self.kept_by_layer.get(layer, range(num_rows))


def fixed(kept_by_layer: dict[int, list[int]]) -> FixedDropout:
    return FixedDropout(Draws(0, 0, 0), [0.0] * NUM_LAYERS, kept_by_layer)


def plain_states(model: Llama, batch: Batch) -> list[Tensor]:
    """The reference: every layer on every row, one after the other."""
    rows, positions = batch.tokens_BT.shape
    context = model.context(torch.arange(positions).expand(rows, -1), batch.mask_BTT)
    states = [model.embed(batch.tokens_BT)]
    for block in model.layers:
        states.append(block(states[-1], context))
    return states[1:]


def plain_loss(model: Llama, batch: Batch) -> Tensor:
    logits = model.logits(plain_states(model, batch)[-1])
    return F.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())


def gradients(model: Llama) -> dict[str, Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    return found


def test_certain_dropout_skips_the_last_layer_and_never_the_first(model: Llama) -> None:
    recipe = Recipe(NUM_LAYERS, p_max=1.0, dropout_scale="constant")
    dropout = dropout_of(recipe, Draws(0, 7, 0), num_steps=10)
    batch = random_batch()
    states = exit_states(model, batch, range(NUM_LAYERS), dropout)
    assert torch.equal(states[LAST], states[LAST - 1])
    assert torch.equal(states[0], plain_states(model, batch)[0])


def test_without_dropout_all_states_are_those_of_the_plain_model(model: Llama) -> None:
    batch = random_batch()
    recipe = Recipe(NUM_LAYERS, p_max=0.0)
    layers = range(NUM_LAYERS)
    off = exit_states(model, batch, layers)
    zero = exit_states(model, batch, layers, dropout_of(recipe, Draws(0, 3, 0), 10))
    for layer, expected in enumerate(plain_states(model, batch)):
        assert torch.equal(off[layer], expected)
        assert torch.equal(zero[layer], expected)


def test_kept_rows_of_a_mixed_batch_equal_the_same_rows_alone(model: Llama) -> None:
    kept = [0, 2, 5]
    mask = torch.ones(6, 12, 12, dtype=torch.bool).tril()
    mask[:, :, 1] &= (torch.arange(6) % 2 == 0)[:, None]
    mask |= torch.eye(12, dtype=torch.bool)
    batch = replace(random_batch(), mask_BTT=mask)
    mixed = exit_states(model, batch, [LAST], fixed({2: kept, 3: kept}))[LAST]
    alone = Batch(batch.tokens_BT[kept], batch.targets_BT[kept], mask[kept])
    torch.testing.assert_close(mixed[kept], plain_states(model, alone)[LAST])


def test_dropped_rows_pass_a_layer_unchanged(model: Llama) -> None:
    states = exit_states(model, random_batch(), [1, 2], fixed({2: [1, 4]}))
    dropped = [0, 2, 3, 5]
    assert torch.equal(states[2][dropped], states[1][dropped])
    assert not torch.allclose(states[2][[1, 4]], states[1][[1, 4]])


def test_dropped_rows_carry_their_gradient_past_the_layer(model: Llama) -> None:
    states = exit_states(model, random_batch(), [0, LAST], fixed({1: [0], 2: [0], 3: [0]}))
    (gradient,) = torch.autograd.grad(states[LAST].sum(), states[0])
    assert torch.equal(gradient[1:], torch.ones_like(gradient[1:]))


@pytest.mark.parametrize("step", range(4))
def test_every_part_of_the_model_has_a_gradient_on_every_step(model: Llama, step: int) -> None:
    recipe = Recipe(NUM_LAYERS, p_max=0.0, rotation=4)
    backward(model, random_batch(), recipe, Draws(0, step, 0), num_steps=10)
    for name, gradient in gradients(model).items():
        assert gradient.abs().max() > 0, name


def test_with_the_last_exit_alone_the_loss_is_plain_cross_entropy(model: Llama) -> None:
    batch = random_batch()
    recipe = Recipe(NUM_LAYERS, p_max=0.0, curriculum="last")
    losses = backward(model, batch, recipe, Draws(0, 1, 0), num_steps=10)
    found = gradients(model)
    expected = plain_loss(model, batch)
    expected.backward()
    assert losses == pytest.approx({LAST: expected.item()}, abs=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_gradients_are_those_of_the_weighted_sum_however_it_is_chunked(
    model: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.layerskip.HEAD_ROWS", 7)
    batch, recipe = random_batch(), Recipe(NUM_LAYERS, p_max=0.0, rotation=2, e_scale=0.5)
    losses = backward(model, batch, recipe, Draws(0, 1, 0), num_steps=10)
    found = gradients(model)
    states = plain_states(model, batch)
    weights = {1: 0.5, 3: 4.5}  # e(1) = s, e(3) = 3 + 3 s
    parts = {
        layer: F.cross_entropy(
            model.logits(states[layer]).flatten(0, 1), batch.targets_BT.flatten()
        )
        for layer in weights
    }
    total = sum(weight / 5.0 * parts[layer] for layer, weight in weights.items())
    total.backward()
    assert losses == pytest.approx({layer: part.item() for layer, part in parts.items()})
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient, msg=name)


def test_four_micro_batches_give_the_gradient_of_one_four_times_as_large(model: Llama) -> None:
    recipe = Recipe(NUM_LAYERS, p_max=0.0)
    whole = random_batch(num_rows=8)
    backward(model, whole, recipe, Draws(0, 2, 0), num_steps=10)
    expected = gradients(model)
    for index in range(4):
        rows = slice(2 * index, 2 * index + 2)
        part = Batch(whole.tokens_BT[rows], whole.targets_BT[rows])
        backward(model, part, recipe, Draws(0, 2, index), 10, num_micro_batches=4)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
