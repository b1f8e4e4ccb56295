"""Model directories: what transformers reads in them, what is refused, how exits are scored."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from training.data import held_out_windows
from training.errors import TrainingError
from training.evaluate import score_exits
from training.export import load_model, save_model
from training.layerskip import Batch, exit_states
from training.model import Llama, ModelShape, shape_of_config
from training.tokenizer import train_tokenizer

SHAPE = ModelShape(
    vocab_size=280, num_layers=3, hidden_size=32, ffn_size=48, num_heads=4, num_kv_heads=2,
    head_size=8, max_positions=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["User: Where are the pancakes?\nAssistant: In the kitchen.\n" * 9], 280)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A model directory with random weights."""
    save_model(Llama(SHAPE, seed=2), tokenizer, tmp_path / "model", "float32")
    return tmp_path / "model"


def test_transformers_computes_the_same_logits(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = load_model(folder)
    tokens = torch.arange(60).reshape(2, 30)
    with torch.no_grad():
        states = exit_states(ours, Batch(tokens, tokens), [2])
        torch.testing.assert_close(ours.logits(states[2]), theirs(tokens).logits)


def test_transformers_reads_the_tokenizer_and_its_chat_template(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "Where are the pancakes?"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "User: Where are the pancakes?\nAssistant:"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.eos_token_id == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_width_weights_are_read_back_as_float32(tmp_path, tokenizer, dtype: str) -> None:
    model = Llama(SHAPE, seed=2)
    save_model(model, tokenizer, tmp_path / "model", dtype)
    loaded = load_model(tmp_path / "model").state_dict()
    for name, weight in model.state_dict().items():
        expected = weight.to(getattr(torch, dtype)).float()
        assert torch.equal(loaded[name], expected)


def test_a_second_export_replaces_the_first_and_keeps_the_card(folder: Path, tokenizer) -> None:
    (folder / "README.md").write_text("card")
    save_model(Llama(SHAPE, seed=3), tokenizer, folder, "float32")
    assert (folder / "README.md").read_text() == "card"
    weights = load_model(folder).state_dict()["model.embed_tokens.weight"]
    assert torch.equal(weights, Llama(SHAPE, seed=3).embed(torch.arange(280)))
    assert not folder.with_name("model.partial").exists()


def spoil_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cut off")


def spoil_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("spoil", [spoil_weights, spoil_config, other_shape, remove_weights])
def test_damaged_model_directories_are_named(folder: Path, spoil) -> None:
    spoil(folder)
    with pytest.raises(TrainingError, match=r"model .*model"):
        load_model(folder)


def test_rope_theta_is_found_where_newer_configs_have_it(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["rope_theta"]
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 500.0}
    assert shape_of_config(config).rope_theta == 500.0


def test_the_last_exit_agrees_with_itself_and_losses_are_means(shape, random_corpus) -> None:
    model = Llama(shape, seed=1)
    batches = held_out_windows(random_corpus(4), num_windows=10, row_len=32)
    scores = score_exits(model, batches)
    assert scores.num_tokens == 320
    assert scores.agreement[-1] == 1
    assert scores.cross_entropy == pytest.approx([np.log(shape.vocab_size)] * 4, abs=0.3)


def test_a_layer_that_does_nothing_leaves_full_agreement(shape, random_corpus) -> None:
    model = Llama(shape, seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.mul_(0 if name.startswith("model.layers.3.") else 50)
    scores = score_exits(model, held_out_windows(random_corpus(4), 4, 32))
    assert scores.agreement[-2:] == [1, 1]
    assert scores.agreement[0] < 1
