"""Models in and out of a run: adapters, frozen parts, written directories, damaged ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.model_builder import edit_config
from tests.training_runs import (
    MAX_POSITIONS,
    NUM_LAYERS,
    config_of,
    continued_values,
    run_of,
    run_values,
    trained,
    weights,
    write_base,
)
from training.errors import TrainingError
from training.exits import exit_logits, exit_states
from training.layerskip import finish, train
from training.models import load_model, save_model

IDS = torch.arange(24).reshape(2, 12)
PEFT_WARNS = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
SHORT = {"max_steps": 3}


def logits_of(model: Any) -> torch.Tensor:
    """Logits of the model as it is, whatever its forward does now."""
    model.eval()
    last = NUM_LAYERS - 1
    with torch.no_grad():
        return exit_logits(model, exit_states(model, IDS, {last}, NUM_LAYERS)[last])


def loaded(path: Path) -> Any:
    """The written model, by transformers alone."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@PEFT_WARNS
def test_only_adapters_train_and_the_written_model_has_them_merged(
    base: Path, data: Path, out: Path
) -> None:
    run = run_of(continued_values(base, lora={"rank": 2}, trainer=SHORT), data, out)
    before = weights(run)
    finished = finish(run, run.trainer.train().metrics["train_runtime"])
    assert finished.quality is not None
    after = weights(run)
    for name, value in before.items():
        assert torch.equal(after[name], value) != ("lora_" in name), name
    written = loaded(out / "model")
    with torch.no_grad():
        torch.testing.assert_close(written(IDS).logits, logits_of(run.trainer.model))
        assert not torch.allclose(written(IDS).logits, loaded(base)(IDS).logits, atol=1e-3)
    assert written.state_dict().keys() == loaded(base).state_dict().keys()
    assert not list((out / "model").glob("adapter*"))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["num_parameters"] == sum(weight.numel() for weight in written.parameters())


@PEFT_WARNS
def test_merging_leaves_the_model_in_training_as_it_is(base: Path, data: Path, out: Path) -> None:
    run = trained(continued_values(base, lora={"rank": 2}, trainer=SHORT), data, out)
    before = logits_of(run.trainer.model)
    save_model(run.trainer.model, run.tokenizer, out / "model", run.config.model)
    assert torch.equal(logits_of(run.trainer.model), before)


@PEFT_WARNS
def test_adapters_may_name_their_modules(base: Path, data: Path, out: Path) -> None:
    lora = {"rank": 2, "target_modules": ["q_proj", "v_proj"]}
    run = run_of(continued_values(base, lora=lora), data, out)
    found = {name.split(".lora_")[0].split(".")[-1] for name in weights(run) if "lora_" in name}
    assert found == {"q_proj", "v_proj"}
    lora = {"rank": 2, "target_modules": ["q_projection"]}
    with pytest.raises(TrainingError, match=r"lora\.target_modules: .*q_projection"):
        run_of(continued_values(base, lora=lora), data, out)


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("embedding", ("model.embed_tokens.",)),
        ("norm", ("model.norm.",)),
        ("head", ("lm_head.",)),
        ("last_layer", (f"model.layers.{NUM_LAYERS - 1}.",)),
    ],
)
def test_frozen_parts_keep_every_bit_and_all_others_move(
    base: Path, data: Path, out: Path, name: str, prefixes: tuple[str, ...]
) -> None:
    values = continued_values(base, trainer=SHORT | {"weight_decay": 0.1}, recipe={"p_max": 0.0})
    run = run_of(values | {"freeze": [name]}, data, out)
    before = weights(run)
    run.trainer.train()
    for weight, value in weights(run).items():
        assert torch.equal(value, before[weight]) == weight.startswith(prefixes), weight


def test_a_frozen_head_freezes_the_embedding_that_it_is_tied_to(data: Path, out: Path) -> None:
    base = write_base(out.with_name("tied"), tie_word_embeddings=True)
    run = run_of(continued_values(base, trainer=SHORT) | {"freeze": ["head"]}, data, out)
    before = weights(run)["model.embed_tokens.weight"]
    run.trainer.train()
    assert torch.equal(weights(run)["model.embed_tokens.weight"], before)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("llama", "float32"),
        ("llama", "float16"),
        ("mistral-window", "bfloat16"),
        ("qwen2", "bfloat16"),
        ("qwen3", "bfloat16"),
    ],
)
def test_the_written_model_is_the_one_that_was_trained(
    kind: str, dtype: str, data: Path, out: Path
) -> None:
    base = write_base(out.with_name("base"), kind)
    values = continued_values(base, trainer={"max_steps": 1})
    values["model"]["store_dtype"] = dtype
    run = run_of(values, data, out)
    finish(run, run.trainer.train().metrics["train_runtime"])
    written = loaded(out / "model")
    stored = AutoModelForCausalLM.from_pretrained(out / "model")
    assert stored.dtype == getattr(torch, dtype)
    expected = run.trainer.model.state_dict()
    for name, value in written.state_dict().items():
        assert torch.equal(value, expected[name].to(stored.dtype).float()), name
    assert stored.config.tie_word_embeddings == loaded(base).config.tie_word_embeddings
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(base).get_vocab()


def test_a_tied_head_is_stored_once(data: Path, out: Path) -> None:
    from safetensors import safe_open

    run = run_of(run_values(trainer={"max_steps": 1}), data, out)
    for dtype in ("float32", "float16"):
        section = run.config.model.model_copy(update={"store_dtype": dtype})
        save_model(run.trainer.model, run.tokenizer, out / dtype, section)
        with safe_open(out / dtype / "model.safetensors", "pt") as file:
            assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    assert run.trainer.model.dtype == torch.float32


def test_a_second_model_replaces_the_first_and_keeps_the_card(data: Path, out: Path) -> None:
    run = run_of(run_values(), data, out)
    save_model(run.trainer.model, run.tokenizer, out / "model", run.config.model)
    (out / "model/README.md").write_text("card")
    with torch.no_grad():
        run.trainer.model.model.norm.weight.mul_(2)
    save_model(run.trainer.model, run.tokenizer, out / "model", run.config.model)
    assert (out / "model/README.md").read_text() == "card"
    assert torch.equal(loaded(out / "model").model.norm.weight, torch.full((16,), 2.0))
    assert [path.name for path in out.glob("model*")] == ["model"]


def test_the_quality_of_a_continued_run_is_measured_against_its_base(
    base: Path, data: Path, out: Path
) -> None:
    path = out.with_name("config.yaml")
    values = continued_values(base, trainer=SHORT | {"learning_rate": 3.0})
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    finished = train(path, data, out)
    assert finished.quality is not None
    assert set(finished.quality.sources) == {"words", "tasks"}
    assert any("words: the last layer's loss rose" in text for text in finished.quality.warnings)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["quality"]["warnings"] == list(finished.quality.warnings)


def test_distilling_from_the_base_holds_the_last_layer_to_it(
    base: Path, data: Path, out: Path
) -> None:
    distances = []
    for weight in (0.0, 50.0):
        changes = {"base_distillation": weight, "p_max": 0.0}
        values = continued_values(base, recipe=changes, trainer={"max_steps": 10})
        run = trained(values, data, out.with_name(f"out{weight}"))
        given, wanted = (
            logits_of(run.trainer.model).softmax(-1),
            logits_of(loaded(base)).softmax(-1),
        )
        distances.append(float((given - wanted).abs().mean()))
    assert distances[1] < distances[0] / 2


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def cut_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def other_family(folder: Path) -> None:
    edit_config(folder, model_type="gpt2", architectures=["GPT2LMHeadModel"])


def no_such_family(folder: Path) -> None:
    edit_config(folder, model_type="nonesuch")


def other_shape(folder: Path) -> None:
    edit_config(folder, intermediate_size=48)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_weights, "cannot load the model .*base"),
        (no_weights, "cannot load the model .*base"),
        (no_config, "cannot load the model .*base"),
        (cut_config, "cannot load the model .*base"),
        (other_family, "base is of the family 'gpt2'; exits can be trained for llama"),
        (no_such_family, ".*base"),
        (other_shape, "cannot load the model .*base"),
    ],
)
def test_damaged_and_unfit_models_are_named(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = write_base(tmp_path / "base")
    spoil(folder)
    with pytest.raises(TrainingError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_a_model_that_lacks_some_weights_is_refused(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    edit_config(folder, num_hidden_layers=NUM_LAYERS + 1)
    with pytest.raises(TrainingError, match="cannot load the model"):
        load_model(str(folder))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"model_type": "gpt2"}, "model.init is of the family 'gpt2'"),
        ({"num_attention_heads": 3, "head_dim": None}, "model.init: "),
        ({"vocab_size": 200}, "model.init: vocab_size is below the tokenizer's 300"),
    ],
)
def test_values_of_a_new_model_that_do_not_fit_are_named(
    data: Path, out: Path, init: dict[str, Any], message: str
) -> None:
    values = run_values()
    values["model"]["init"] |= init
    with pytest.raises(TrainingError, match=message):
        run_of(values, data, out)


def test_rows_longer_than_the_context_are_refused(data: Path, out: Path) -> None:
    values = run_values(data={"row_len": MAX_POSITIONS + 1})
    with pytest.raises(TrainingError, match="rows of 65 tokens exceed the model's context of 64"):
        run_of(values, data, out)


def test_more_start_layers_than_the_model_has_are_refused(data: Path, out: Path) -> None:
    with pytest.raises(TrainingError, match="start_layers must lie in"):
        run_of(run_values(recipe={"start_layers": 9}), data, out)


def test_checkpoints_and_resume_go_together(data: Path, out: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    saving = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    path.write_text(yaml.safe_dump(run_values(trainer=saving)), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"nothing to resume: .* no checkpoint; leave --resume"):
        train(path, data, out, resume=True)
    train(path, data, out)
    with pytest.raises(TrainingError, match="holds checkpoint-2; add --resume, or remove it"):
        train(path, data, out)


def spoil_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"cut off")


def spoil_state(checkpoint: Path) -> None:
    (checkpoint / "trainer_state.json").write_text("{")


def spoil_optimizer(checkpoint: Path) -> None:
    (checkpoint / "optimizer.pt").write_bytes(b"cut off")


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_state, spoil_optimizer])
def test_a_damaged_checkpoint_is_named(
    data: Path, out: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "config.yaml"
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    path.write_text(yaml.safe_dump(run_values(trainer=saving)), encoding="utf-8")
    train(path, data, out)
    (out / "checkpoint-4").rename(tmp_path / "later")
    spoil(out / "checkpoint-2")
    with pytest.raises(TrainingError, match="checkpoint-2"):
        train(path, data, out, resume=True)


def test_the_config_is_kept_whole_in_the_report(data: Path, out: Path) -> None:
    run = run_of(run_values(trainer={"max_steps": 1}), data, out)
    finish(run, run.trainer.train().metrics["train_runtime"])
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert config_of(report["config"]) == run.config
