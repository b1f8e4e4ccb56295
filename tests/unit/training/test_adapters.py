"""Exit adapters: all that learns, beside a model that stays as it is to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from shared.ids import TokenId
from shared.model.config import read_config as read_model_config
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack
from tests.training_ranks import train_on_ranks
from tests.training_runs import (
    NUM_LAYERS,
    config_of,
    continued_values,
    losses,
    run_of,
    run_values,
    sources,
    trained,
    weights,
    write_base,
)
from training.adapters import TrainableAdapters, adapters_of
from training.card import write_card
from training.config import checked
from training.errors import TrainingError
from training.evaluate import score_exits
from training.exits import exit_logits, exit_states, plan_step
from training.layerskip import Run, finish, train
from training.losses import exit_losses
from training.recipe import Draws

IDS = torch.arange(24).reshape(2, 12)
EARLY = (2, 3)


def adapter_values(base: Path, **changes: Any) -> dict[str, Any]:
    """A run of adapters of rank 4 at both exits that have a weight, on running text."""
    changes = {
        "exit_adapters": {"rank": 4},
        "data": {"sources": sources(tasks=0)},
        "recipe": {"p_max": 0.0, "curriculum": "all"},
    } | changes
    values = continued_values(base, **changes)
    return values | {"model": {"path": str(base)}}


def in_adapter(name: str) -> bool:
    return name.startswith("exit_adapters.")


def end(run: Run) -> Any:
    """Train, score and write; return the quality of the last layer."""
    finished = finish(run, run.trainer.train().metrics["train_runtime"])
    assert finished.quality is not None
    return finished.quality


# --- the loss -------------------------------------------------------------------------------------


def test_untrained_adapters_read_the_raw_exits_bit_for_bit(
    base: Path, data: Path, out: Path
) -> None:
    model = run_of(adapter_values(base), data, out).trainer.model.eval()
    states = exit_states(model, IDS, range(NUM_LAYERS), NUM_LAYERS)
    for layer, states_BTD in states.items():
        raw = exit_logits(model, states_BTD)
        assert torch.equal(exit_logits(model, states_BTD, layer), raw), layer


def test_an_adapter_changes_what_is_read_of_its_own_exit_alone(
    base: Path, data: Path, out: Path
) -> None:
    model = run_of(adapter_values(base), data, out).trainer.model.eval()
    adapter = model.exit_adapters["2"]
    with torch.no_grad():
        adapter.up.normal_()
    states = exit_states(model, IDS, range(NUM_LAYERS), NUM_LAYERS)
    for layer, states_BTD in states.items():
        found, raw = exit_logits(model, states_BTD, layer), exit_logits(model, states_BTD)
        assert torch.equal(found, raw) == (layer != 1)
    x_RD = states[1]
    mapped = x_RD + x_RD @ adapter.down.t() @ adapter.up.t()
    torch.testing.assert_close(exit_logits(model, x_RD, 1), exit_logits(model, mapped))


def losses_at(run: Run, step: int) -> dict[str, Any]:
    plan = plan_step(run.trainer.recipe, Draws(1, step, 0), num_steps=10)
    found: dict[str, Any] = exit_losses(run.trainer.model, IDS, IDS, plan)
    return found


def test_the_loss_is_that_of_the_recipe_without_the_last_layers_own_term(
    base: Path, data: Path, out: Path
) -> None:
    run = run_of(adapter_values(base), data, out)
    found = losses_at(run, 0)
    assert set(found["exit_losses"]) == {1, 2}
    plan = plan_step(run.trainer.recipe, Draws(1, 0, 0), num_steps=10)
    model, last = run.trainer.model, NUM_LAYERS - 1
    states = exit_states(model, IDS, range(NUM_LAYERS), NUM_LAYERS)
    wanted = exit_logits(model, states[last]).log_softmax(-1)
    expected = torch.tensor(0.0)
    for layer in (1, 2):
        given = exit_logits(model, states[layer], layer).log_softmax(-1)
        divergence = (wanted.exp() * (wanted - given)).sum(-1).mean()
        entropy = -given.gather(-1, IDS[..., None]).mean()
        expected = expected + plan.weights[layer] * entropy + divergence / 2
    torch.testing.assert_close(found["loss"], expected)


def test_a_step_without_an_exit_to_train_has_gradients_of_zero(
    base: Path, data: Path, out: Path
) -> None:
    recipe = {"p_max": 0.0, "curriculum": "rotational", "rotation": 3}
    run = run_of(adapter_values(base, recipe=recipe, exit_adapters={"exits": [3]}), data, out)
    enabled = [set(losses_at(run, step)["exit_losses"]) for step in range(3)]
    assert enabled == [set(), set(), {2}]
    nothing = losses_at(run, 0)["loss"]
    nothing.backward()
    gradients = [weight.grad for weight in run.trainer.model.parameters() if weight.requires_grad]
    assert nothing.item() == 0 and gradients and not any(each.any() for each in gradients)
    values = adapter_values(base, recipe=recipe, exit_adapters={"exits": [3]})
    assert losses(trained(values, data, out))[2] > 0


# --- runs -----------------------------------------------------------------------------------------


def test_adapters_learn_and_every_weight_of_the_model_stays(
    base: Path, data: Path, out: Path
) -> None:
    decay = {"max_steps": 40, "weight_decay": 0.1}
    run = run_of(adapter_values(base, trainer=decay), data, out)
    before = weights(run)
    run.trainer.train()
    for name, value in weights(run).items():
        assert torch.equal(value, before[name]) != in_adapter(name), name
    history = run.trainer.state.log_history
    for name in ("loss_exit_2", "loss_exit_3"):
        of_exit = [line[name] for line in history if name in line]
        assert of_exit[-1] < of_exit[0] - 0.3, name
    assert not any("loss_exit_4" in line for line in history)


def test_trained_adapters_raise_the_agreement_of_their_exits(
    base: Path, data: Path, out: Path
) -> None:
    # The text of the rows is nothing to a random model: what is to be learnt is its last layer.
    values = adapter_values(
        base,
        exit_adapters={"rank": 8},
        recipe={"p_max": 0.0, "curriculum": "all", "e_scale": 0.001},
        trainer={"max_steps": 100, "learning_rate": 0.02},
        data={"sources": sources(tasks=0), "valid_rows": 16},
    )
    end(run_of(values, data, out))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    raw, read = report["base_scores"]["words"], report["scores"]["words"]
    for exit_layer in EARLY:
        index = exit_layer - 1
        assert read["agreement"][index] > raw["agreement"][index] + 0.05
        assert read["sampled_agreement"][index] > raw["sampled_agreement"][index] + 0.02
    for name in ("agreement", "cross_entropy"):
        assert (read[name][0], read[name][-1]) == (raw[name][0], raw[name][-1])


def test_the_written_model_is_the_base_with_adapters_beside_it(
    base: Path, data: Path, out: Path
) -> None:
    run = run_of(adapter_values(base, trainer={"max_steps": 3}), data, out)
    quality = end(run)
    assert [(one.loss_increase, one.accuracy_drop) for one in quality.sources.values()] == [(0, 0)]
    assert quality.warnings == ()
    names = {path.name for path in base.iterdir()}
    assert {path.name for path in (out / "model").iterdir()} == names | {"exit_adapters"}
    for name in names:
        assert (out / "model" / name).read_bytes() == (base / name).read_bytes(), name
    logits = [
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()(IDS).logits
        for path in (base, out / "model")
    ]
    assert torch.equal(*logits)
    assert len(AutoTokenizer.from_pretrained(out / "model"))


def test_what_is_served_reads_the_exits_as_training_scored_them(
    base: Path, data: Path, out: Path
) -> None:
    run = run_of(adapter_values(base, trainer={"max_steps": 20}), data, out)
    end(run)
    config = read_model_config(out / "model")
    stack = LayerStack(config, exit_adapters=config.find_exit_adapters("auto"))
    assert stack.exit_adapters is not None and stack.exit_adapters.exit_layers == EARLY
    model = run.trainer.model.eval()
    states = exit_states(model, IDS, range(NUM_LAYERS), NUM_LAYERS)
    with torch.no_grad():
        for exit_layer in range(1, NUM_LAYERS):
            x_RD = states[exit_layer - 1].flatten(0, 1)
            found = stack.draft_head(stack.adapt(x_RD, [exit_layer] * len(x_RD)))
            expected = exit_logits(model, x_RD, exit_layer - 1)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    text = [TokenId(token) for token in range(20)]
    read = ExitReader(stack, len(text)).read(text, 1)
    states = exit_states(model, torch.tensor([text[:-1]]), range(NUM_LAYERS), NUM_LAYERS)
    for exit_layer, choices in read.items():
        logits = exit_logits(model, states[exit_layer - 1][0], exit_layer - 1)
        assert choices.tokens == logits.argmax(-1).tolist(), exit_layer


def test_scores_of_a_second_look_are_those_of_the_first(base: Path, data: Path, out: Path) -> None:
    run = trained(adapter_values(base, trainer={"max_steps": 3}), data, out)
    rows = run.held_out["words"].rows
    assert score_exits(run.trainer.model, rows, False) == score_exits(
        run.trainer.model, rows, False
    )


class Stop(TrainerCallback):
    """Ends a run after a step, as if it had been interrupted."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= 4


@pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])
def test_a_resumed_run_ends_with_the_adapters_of_an_unbroken_one(
    is_tied: bool, data: Path, out: Path
) -> None:
    base = write_base(out.with_name("base"), tie_word_embeddings=is_tied)
    saving = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    values = adapter_values(base, trainer=saving)
    unbroken = trained(values, data, out.with_name("unbroken"))
    run = run_of(values, data, out)
    run.trainer.add_callback(Stop())
    run.trainer.train()
    path = out.with_name("config.yaml")
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    train(path, data, out, resume=True)
    with safe_open(out / "model/exit_adapters/adapters.safetensors", "pt") as file:
        for exit_layer in EARLY:
            expected = unbroken.trainer.model.exit_adapters[str(exit_layer)]
            assert torch.equal(file.get_tensor(f"exits.{exit_layer}.down"), expected.down)
            assert torch.equal(file.get_tensor(f"exits.{exit_layer}.up"), expected.up)


def test_checkpoints_hold_adapters_and_no_copy_of_the_model(
    base: Path, data: Path, out: Path
) -> None:
    saving = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    trained(adapter_values(base, trainer=saving), data, out)
    with safe_open(out / "checkpoint-2/model.safetensors", "pt") as file:
        names = sorted(file.keys())
    assert names == [f"exit_adapters.{e}.{part}" for e in EARLY for part in ("down", "up")]


@pytest.mark.timeout(120)  # two more processes load torch, maybe on a busy machine
def test_two_processes_train_the_same_adapters(base: Path, data: Path, tmp_path: Path) -> None:
    recipe = {"p_max": 0.0, "curriculum": "rotational", "rotation": 2}
    trainer = {"max_steps": 3, "per_device_train_batch_size": 2}
    [[first, second]] = train_on_ranks(
        2, [adapter_values(base, recipe=recipe, trainer=trainer)], data, tmp_path
    )
    assert first["losses"] == second["losses"]
    for name, value in first["weights"].items():
        assert torch.equal(second["weights"][name], value), name


def test_the_card_tells_of_adapters_and_of_the_raw_exits(base: Path, data: Path, out: Path) -> None:
    end(run_of(adapter_values(base, trainer={"max_steps": 3}), data, out))
    text = write_card(out).read_text(encoding="utf-8")
    assert "No weight of the model was changed" in text and "rank 4" in text
    assert "## The same exits without adapters" in text
    assert "stored as float32" in text and "Layer dropout" not in text
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(base)
    assert report["num_parameters"] == model.num_parameters()


def test_a_second_run_replaces_model_and_adapters(base: Path, data: Path, out: Path) -> None:
    for rank in (4, 2):
        values = adapter_values(base, trainer={"max_steps": 1}, exit_adapters={"rank": rank})
        end(run_of(values, data, out))
    found = read_model_config(out / "model").find_exit_adapters("auto")
    assert found is not None and found.rank == 2


# --- settings -------------------------------------------------------------------------------------


def test_defaults_are_those_of_a_frozen_model(base: Path) -> None:
    values = adapter_values(base)
    del values["recipe"]
    recipe = config_of(values).recipe
    assert (recipe.p_max, recipe.exit_distillation) == (0, 1)
    values["recipe"] = {"exit_distillation": 0.0}
    assert config_of(values).recipe.exit_distillation == 0, "hard labels alone, as asked for"
    del values["exit_adapters"]
    values["recipe"] = None
    with pytest.raises(TrainingError, match="recipe"):
        config_of(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"init": {"model_type": "llama"}}}, "need model.path"),
        ({"lora": {"rank": 2}}, "leave lora out"),
        ({"freeze": ["norm"]}, "leave freeze out"),
        ({"model": {"path": "x", "store_dtype": "float32"}}, "leave model.store_dtype out"),
        ({"tokenizer": {"vocab_size": 300}}, "leave tokenizer.vocab_size out"),
        ({"recipe": {"p_max": 0.1}}, r"recipe\.p_max must be 0"),
        ({"recipe": {"base_distillation": 1.0}}, r"recipe\.base_distillation must be 0"),
        ({"recipe": {"curriculum": "last"}}, "must not be last"),
        ({"recipe": {"e_scale": 0}}, "nor e_scale 0"),
        ({"exit_adapters": {"rank": 0}}, "exit_adapters.rank"),
        ({"exit_adapters": {"exits": []}}, "exit_adapters.exits"),
        ({"exit_adapters": {"exits": [1]}}, r"exit_adapters\.exits\.0: .*2"),
        ({"exit_adapters": {"exits": [2, 2]}}, "names an exit twice"),
        ({"exit_adapters": {"ranks": 4}}, "did you mean rank"),
        ({"recipe": "gradual"}, "recipe"),
    ],
)
def test_settings_that_contradict_a_frozen_model_are_refused(
    changes: dict[str, Any], message: str, base: Path
) -> None:
    values = adapter_values(base) | {"tokenizer": {"path": str(base)}} | changes
    with pytest.raises(TrainingError, match=message) as raised:
        checked(values, "of the test")
    assert "\n" not in str(raised.value)


def test_exits_that_the_model_lacks_are_refused(base: Path, data: Path, out: Path) -> None:
    values = adapter_values(base, exit_adapters={"exits": [2, NUM_LAYERS]})
    with pytest.raises(TrainingError, match="4 layers has no exit 4 to train; its exits end at 3"):
        run_of(values, data, out)
    shallow = write_base(out.with_name("shallow"), num_layers=2)
    with pytest.raises(TrainingError, match="2 layers has no exit 2"):
        run_of(adapter_values(shallow), data, out)


def test_models_without_files_to_copy_are_refused(base: Path, data: Path, out: Path) -> None:
    for path in (out, Path("some/name")):
        values = adapter_values(base) | {"model": {"path": str(path)}}
        with pytest.raises(TrainingError, match=r"must be a directory with \*\.safetensors"):
            run_of(values, data, out)


def test_other_runs_know_nothing_of_adapters(data: Path, out: Path) -> None:
    assert adapters_of(run_of(run_values(), data, out).trainer.model) is None


def test_adapters_begin_the_same_for_the_same_seed() -> None:
    first, second, other = (TrainableAdapters((2, 3), 16, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(first["3"].down, second["3"].down)
    assert not torch.equal(first["3"].down, other["3"].down)
    assert not torch.equal(first["2"].down, first["3"].down)
