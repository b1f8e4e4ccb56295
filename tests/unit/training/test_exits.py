"""Layer dropout and the loss at every exit, on models of transformers itself."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from tests.model_builder import KINDS, WINDOW, make_config
from training.exits import Dropout, StepPlan, exit_logits, exit_states, plan_step
from training.losses import exit_losses
from training.models import start_as_identity
from training.recipe import Draws, Recipe, drop_probability
from training.rows import IGNORED

NUM_LAYERS, VOCAB_SIZE, NUM_ROWS, ROW_LEN = 6, 64, 5, 17
LAST = NUM_LAYERS - 1
FAMILIES = sorted(KINDS)


def model_of(kind: str = "llama", num_layers: int = NUM_LAYERS, **options: Any) -> Any:
    """A random model whose layers all matter."""
    sizes = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 48}
    torch.manual_seed(4)
    model = AutoModelForCausalLM.from_config(make_config(kind, num_layers, **(sizes | options)))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(6)
    return model


def ids_of(num_rows: int = NUM_ROWS, row_len: int = ROW_LEN, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB_SIZE, (num_rows, row_len), generator=generator)


def labels_of(ids: Tensor) -> Tensor:
    """Shifted labels; some tokens of every other row are not learnt."""
    labels = torch.cat([ids[:, 1:], ids[:, :1]], dim=1)
    labels[::2, :4] = IGNORED
    return labels


@dataclass(frozen=True)
class FixedDropout(Dropout):
    """Drops the rows that a test names."""

    kept_by_layer: dict[int, list[int]] = field(default_factory=dict)

    def kept_rows(self, layer: int, num_rows: int) -> Sequence[int]:
        return self.kept_by_layer.get(layer, range(num_rows))


def fixed(kept_by_layer: dict[int, list[int]]) -> FixedDropout:
    return FixedDropout(Draws(0, 0, 0), [0.0] * NUM_LAYERS, kept_by_layer)


def left_padded(num_pads: Sequence[int]) -> Tensor:
    """An attention mask whose rows begin with pads."""
    return (torch.arange(ROW_LEN) >= torch.tensor(num_pads)[:, None]).long()


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    found = {
        name: None if weight.grad is None else weight.grad.clone()
        for name, weight in model.named_parameters()
    }
    model.zero_grad()
    return found


def assert_same_gradients(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, at=name: f"{at}: {text}")


def test_the_window_is_shorter_than_the_rows() -> None:
    assert WINDOW < ROW_LEN
    assert {model_of(kind).config.model_type for kind in FAMILIES} == {
        "llama", "mistral", "qwen2", "qwen3",
    }  # fmt: skip


@pytest.mark.parametrize("is_padded", [False, True], ids=["whole rows", "left-padded"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_without_drops_the_logits_are_those_of_transformers_bit_for_bit(
    kind: str, is_padded: bool
) -> None:
    model, ids = model_of(kind), ids_of()
    mask = left_padded([0, 2, 5, 0, 9]) if is_padded else None
    dropout = plan_step(Recipe(NUM_LAYERS, p_max=0.0), Draws(1, 5, 0), 10).dropout
    with torch.no_grad():
        expected = model(ids, attention_mask=mask).logits
        for drops in (None, dropout):
            states = exit_states(model, ids, {LAST}, NUM_LAYERS, drops, mask)
            assert torch.equal(exit_logits(model, states[LAST]), expected)


@pytest.mark.parametrize("kind", FAMILIES)
def test_early_exits_are_the_hidden_states_of_transformers(kind: str) -> None:
    model, ids = model_of(kind), ids_of()
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states
        states = exit_states(model, ids, range(NUM_LAYERS), NUM_LAYERS)
    for layer in range(LAST):  # the last hidden state of transformers is behind the norm
        assert torch.equal(states[layer], expected[layer + 1])


def test_certain_dropout_skips_the_last_layer_and_never_the_first() -> None:
    model, ids = model_of(), ids_of()
    recipe = Recipe(NUM_LAYERS, p_max=1.0, dropout_scale="constant")
    for step in range(5):
        dropout = plan_step(recipe, Draws(0, step, 0), 10).dropout
        with torch.no_grad():
            states = exit_states(model, ids, range(NUM_LAYERS), NUM_LAYERS, dropout)
            whole = exit_states(model, ids, {0}, NUM_LAYERS)
        assert torch.equal(states[LAST], states[LAST - 1])
        assert torch.equal(states[0], whole[0])


@pytest.mark.parametrize("is_padded", [False, True], ids=["whole rows", "left-padded"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_kept_rows_of_a_mixed_batch_equal_the_same_rows_alone(kind: str, is_padded: bool) -> None:
    model, ids, kept = model_of(kind), ids_of(), [1, 2, 4]
    mask = left_padded([7, 2, 5, 0, 9]) if is_padded else None
    dropout = fixed({2: kept, 3: kept, LAST: kept})
    with torch.no_grad():
        mixed = exit_states(model, ids, {LAST}, NUM_LAYERS, dropout, mask)[LAST][kept]
        part = None if mask is None else mask[kept]
        alone = exit_states(model, ids[kept], {LAST}, NUM_LAYERS, None, part)[LAST]
    real = slice(None) if mask is None else mask[kept].bool()
    torch.testing.assert_close(mixed[real], alone[real])


def test_dropped_rows_pass_a_layer_unchanged_and_unscaled() -> None:
    model, ids = model_of(), ids_of()
    with torch.no_grad():
        states = exit_states(model, ids, {1, 2}, NUM_LAYERS, fixed({2: [1, 4]}))
        whole = exit_states(model, ids, {2}, NUM_LAYERS)
    dropped = [0, 2, 3]
    assert torch.equal(states[2][dropped], states[1][dropped])
    torch.testing.assert_close(states[2][[1, 4]], whole[2][[1, 4]])


def test_dropped_rows_carry_their_gradient_past_the_layer() -> None:
    model, ids = model_of(), ids_of()
    kept = {layer: [0] for layer in range(1, NUM_LAYERS)}
    states = exit_states(model, ids, {0, LAST}, NUM_LAYERS, fixed(kept))
    (gradient,) = torch.autograd.grad(states[LAST].sum(), states[0])
    assert torch.equal(gradient[1:], torch.ones_like(gradient[1:]))


def test_drop_counts_fit_their_probabilities() -> None:
    recipe, num_steps, num_rows = Recipe(NUM_LAYERS, p_max=0.4), 1000, 10
    dropped: Counter[int] = Counter()
    mean: Counter[int] = Counter()
    variance: Counter[int] = Counter()
    for step in range(num_steps):
        dropout = plan_step(recipe, Draws(9, step, 0), num_steps).dropout
        for layer in range(NUM_LAYERS):
            p = drop_probability(recipe, layer, step, num_steps)
            dropped[layer] += num_rows - len(dropout.kept_rows(layer, num_rows))
            mean[layer] += num_rows * p
            variance[layer] += num_rows * p * (1 - p)
    assert dropped[0] == 0
    for layer in range(1, NUM_LAYERS):
        assert abs(dropped[layer] - mean[layer]) < 4 * variance[layer] ** 0.5


def test_drops_of_different_layers_and_rows_are_uncorrelated() -> None:
    num_draws = 10_000
    draws = [Draws(3, step, 0) for step in range(num_draws)]
    kept = torch.zeros(num_draws, 3, 2)
    for step, draw in enumerate(draws):
        for layer in range(3):
            kept[step, layer, list(draw.kept_rows(layer, 2, 0.5))] = 1
    correlations = torch.corrcoef(kept.flatten(1).T) - torch.eye(6)
    assert correlations.abs().max() < 4 / num_draws**0.5


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased"])
@pytest.mark.parametrize("step", range(4))
def test_every_part_of_the_model_has_a_gradient_on_every_step(kind: str, step: int) -> None:
    model, ids = model_of(kind), ids_of()
    plan = plan_step(Recipe(NUM_LAYERS, p_max=0.0, rotation=4), Draws(0, step, 0), 10)
    exit_losses(model, ids, labels_of(ids), plan)["loss"].backward()
    for name, gradient in gradients(model).items():
        if not name.endswith("k_proj.bias"):  # shifts all scores alike: its gradient is 0
            assert gradient is not None, name
            assert gradient.abs().max() > 0, name


def test_with_the_last_exit_alone_the_loss_is_plain_cross_entropy() -> None:
    model, ids = model_of(), ids_of()
    labels = labels_of(ids)
    plan = plan_step(Recipe(NUM_LAYERS, p_max=0.0, curriculum="last"), Draws(0, 3, 0), 10)
    found = exit_losses(model, ids, labels, plan)
    found["loss"].backward()
    ours = gradients(model)
    expected = F.cross_entropy(model(ids).logits.flatten(0, 1), labels.flatten())
    expected.backward()
    torch.testing.assert_close(found["loss"], expected)
    assert list(found["exit_losses"]) == [LAST]
    assert_same_gradients(ours, gradients(model))


def weighted_sum(model: Any, ids: Tensor, labels: Tensor, weights: dict[int, float]) -> Tensor:
    """The reference: whole logits of every exit, all at once."""
    states = exit_states(model, ids, range(NUM_LAYERS), NUM_LAYERS)
    parts = [
        weight * F.cross_entropy(exit_logits(model, states[layer]).flatten(0, 1), labels.flatten())
        for layer, weight in weights.items()
    ]
    return torch.stack(parts).sum()


@pytest.mark.parametrize("kind", ["llama", "llama-tied-biased"])
@pytest.mark.parametrize("head_rows", [1, 7, 85, 4096])
def test_the_chunks_of_the_head_change_neither_loss_nor_gradients(
    kind: str, head_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.losses.HEAD_ROWS", head_rows)
    model, ids = model_of(kind), ids_of()
    labels = labels_of(ids)
    plan = plan_step(Recipe(NUM_LAYERS, p_max=0.0, rotation=2, e_scale=0.5), Draws(0, 1, 0), 10)
    found = exit_losses(model, ids, labels, plan)
    found["loss"].backward()
    ours = gradients(model)
    scales = {1: 0.5, 3: 3.0, 5: 5 + 0.5 * 10}  # e(l) = s l (l + 1) / 2, and the last one's
    weights = {layer: scale / sum(scales.values()) for layer, scale in scales.items()}
    expected = weighted_sum(model, ids, labels, weights)
    expected.backward()
    torch.testing.assert_close(found["loss"], expected)
    assert_same_gradients(ours, gradients(model))


def test_losses_are_divided_by_the_tokens_of_the_whole_step() -> None:
    model, ids = model_of(), ids_of()
    labels = labels_of(ids)
    plan = plan_step(Recipe(NUM_LAYERS, p_max=0.0), Draws(0, 1, 0), 10)
    learnt = int((labels != IGNORED).sum())
    own, of_step = (exit_losses(model, ids, labels, plan, n)["loss"] for n in (None, 3 * learnt))
    torch.testing.assert_close(own, 3 * of_step)


def distillation_only(make: Callable[[Any], StepPlan]) -> StepPlan:
    """A plan without cross-entropy: what is distilled, alone."""
    plan = make(Recipe(NUM_LAYERS, p_max=0.0, curriculum="all"))
    return replace(plan, weights=dict.fromkeys(plan.weights, 0.0))


def exit_plan(recipe: Recipe) -> StepPlan:
    return plan_step(replace(recipe, exit_distillation=0.7), Draws(0, 0, 0), 10)


def base_plan(recipe: Recipe) -> StepPlan:
    return plan_step(replace(recipe, base_distillation=0.7), Draws(0, 0, 0), 10)


def divergence(teacher: Tensor, student: Tensor, labels: Tensor) -> Tensor:
    """Mean KL(teacher || student) over learnt tokens, from logits."""
    wanted, given = F.log_softmax(teacher, -1), F.log_softmax(student, -1)
    return (wanted.exp() * (wanted - given)).sum(-1)[labels != IGNORED].mean()


def test_exit_distillation_is_the_mean_divergence_of_the_early_exits_from_the_last() -> None:
    model, ids = model_of(), ids_of()
    labels = labels_of(ids)
    with torch.no_grad():
        states = exit_states(model, ids, range(NUM_LAYERS), NUM_LAYERS)
        logits = [exit_logits(model, states[layer]) for layer in range(NUM_LAYERS)]
        parts = [divergence(logits[LAST], logits[layer], labels) for layer in range(1, LAST)]
        found = exit_losses(model, ids, labels, distillation_only(exit_plan))["loss"]
    assert min(parts) > 0
    torch.testing.assert_close(found, 0.7 * torch.stack(parts).mean())


def test_exit_distillation_moves_no_parameter_of_the_last_layer() -> None:
    model, ids = model_of(), ids_of()
    exit_losses(model, ids, labels_of(ids), distillation_only(exit_plan))["loss"].backward()
    for name, gradient in gradients(model).items():
        moved = gradient is not None and bool(gradient.abs().max() > 0)
        assert moved != name.startswith((f"model.layers.{LAST}.", f"model.layers.{LAST - 0}.")), (
            name
        )


def test_exits_that_choose_as_the_last_one_does_diverge_by_nothing() -> None:
    model, ids = model_of(), ids_of()
    start_as_identity(model, 2)
    found = exit_losses(model, ids, labels_of(ids), distillation_only(exit_plan))["loss"]
    torch.testing.assert_close(found, torch.zeros(()), atol=1e-6, rtol=0)


def test_base_distillation_is_the_divergence_of_the_last_exit_from_the_base() -> None:
    model, base, ids = model_of(), model_of(), ids_of()
    labels = labels_of(ids)
    plan = distillation_only(base_plan)
    same = exit_losses(model, ids, labels, plan, base_model=base)["loss"]
    torch.testing.assert_close(same, torch.zeros(()), atol=1e-6, rtol=0)
    with torch.no_grad():
        base.model.norm.weight.mul_(1.5)
        expected = divergence(base(ids).logits, model(ids).logits, labels)
    found = exit_losses(model, ids, labels, plan, base_model=base)["loss"]
    torch.testing.assert_close(found, 0.7 * expected)
    found.backward()
    assert all(gradient is None for gradient in gradients(base).values())
    assert all(gradient is not None for gradient in gradients(model).values())


def test_without_distillation_no_base_is_run() -> None:
    model, ids = model_of(), ids_of()
    plan = plan_step(Recipe(NUM_LAYERS, p_max=0.0), Draws(0, 0, 0), 10)
    exit_losses(model, ids, labels_of(ids), plan, base_model=nn.Identity())


def test_growing_changes_no_logits() -> None:
    model, ids = model_of(), ids_of()
    start_as_identity(model, 3)
    with torch.no_grad():
        states = exit_states(model, ids, range(NUM_LAYERS), NUM_LAYERS)
        shallow = exit_states(model, ids, {2}, 3)
    for layer in range(3, NUM_LAYERS):
        assert torch.equal(exit_logits(model, states[layer]), exit_logits(model, shallow[2]))
    assert not torch.equal(states[1], states[2])


def test_layers_that_do_not_exist_yet_have_no_gradient_and_then_have_one() -> None:
    model, ids = model_of(), ids_of()
    start_as_identity(model, 3)
    recipe = Recipe(NUM_LAYERS, p_max=0.0, curriculum="all", start_layers=3, grow_at=0.5)
    deep = tuple(f"model.layers.{layer}." for layer in range(3, NUM_LAYERS))
    for step, has_grown in ((4, False), (5, True)):
        plan = plan_step(recipe, Draws(0, step, 0), 10)
        assert max(plan.weights) == (LAST if has_grown else 2)
        exit_losses(model, ids, labels_of(ids), plan)["loss"].backward()
        moved = {
            name
            for name, gradient in gradients(model).items()
            if gradient is not None and gradient.abs().max() > 0
        }
        assert any(name.startswith(deep) for name in moved) == has_grown
        if has_grown:
            assert {f"{layer}mlp.down_proj.weight" for layer in deep} <= moved
