"""Directories that cannot be served: the error names the culprit before anything loads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import BadModel
from shared.model.config import read_config
from shared.model.layer_stack import load_stack
from tests.model_builder import EOS_ID, WINDOW, edit_config, write_model

Break = Callable[[Path], None]


def no_directory(path: Path) -> None:
    shutil.rmtree(path)


def no_config(path: Path) -> None:
    (path / "config.json").unlink()


def config_is(text: str) -> Break:
    return lambda path: (path / "config.json").write_text(text) and None


def config_with(**changes: object) -> Break:
    return lambda path: edit_config(path, **changes)


def no_weights(path: Path) -> None:
    for file in path.glob("*.safetensors"):
        file.unlink()


def truncated(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def empty_weights(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def change_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Break:
    def apply(path: Path) -> None:
        tensors = load_file(path / "model.safetensors")
        change(tensors)
        save_file(tensors, path / "model.safetensors")

    return apply


def without(name: str) -> Break:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]

    return change_tensors(drop)


def replaced(name: str, tensor: torch.Tensor) -> Break:
    return change_tensors(lambda tensors: tensors.__setitem__(name, tensor))


def index_is(value: object) -> Break:
    text = value if isinstance(value, str) else json.dumps(value)
    return lambda path: (path / "model.safetensors.index.json").write_text(text) and None


QUANTIZED = {"quant_method": "gptq", "bits": 4}

FAULTS: dict[str, tuple[Break, str]] = {
    "missing directory": (no_directory, "config.json not found"),
    "missing config": (no_config, "config.json not found; a model is a Hugging Face directory"),
    "bad JSON": (config_is("{"), "config.json cannot be read"),
    "not text": (lambda p: (p / "config.json").write_bytes(b"\xff\xfe") and None, "cannot be read"),
    "no object": (config_is("[1]"), "must hold a JSON object"),
    "unknown family": (config_with(model_type="gpt2"), "model_type 'gpt2' is not supported"),
    "no family": (config_with(model_type=None), "model_type None is not supported"),
    "quantized": (config_with(quantization_config=QUANTIZED), "quantized"),
    "another activation": (config_with(hidden_act="gelu"), "hidden_act 'gelu'"),
    "heads not shared": (config_with(num_key_value_heads=3), "4 heads cannot share 3"),
    "no heads": (config_with(num_attention_heads=0), "num_attention_heads 0 must be positive"),
    "odd heads": (config_with(head_dim=15), "even rotary dimension|head size 15 is odd"),
    "no layers": (config_with(num_hidden_layers=0), "must be positive"),
    "a word for a number": (config_with(hidden_size="large"), "hidden_size.*large"),
    "EOS outside": (config_with(vocab_size=2), "EOS"),
    "missing weights": (no_weights, "neither model.safetensors nor"),
    "truncated weights": (truncated, "model.safetensors is corrupt or truncated"),
    "empty weights": (empty_weights, "model.safetensors is corrupt or truncated"),
    "missing tensor": (
        without("model.layers.2.mlp.up_proj.weight"),
        "tensor model.layers.2.mlp.up_proj.weight is missing",
    ),
    "missing head": (without("lm_head.weight"), "tensor lm_head.weight is missing"),
    "wrong shape": (
        replaced("model.norm.weight", torch.ones(7)),
        r"model.norm.weight has shape \[7\], config.json asks for \[64\]",
    ),
    "wrong heads": (config_with(num_key_value_heads=4), "k_proj.weight has shape"),
    "wrong hidden size": (config_with(hidden_size=32, head_dim=16), "asks for"),
    "integers": (
        replaced("model.norm.weight", torch.ones(64, dtype=torch.int8)),
        "model.norm.weight is torch.int8, not a float",
    ),
    "missing shard": (
        index_is({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}),
        "model-00001-of-00002.safetensors: this shard is named by",
    ),
    "tensor not in its shard": (
        index_is({"weight_map": {"model.nothing.weight": "model.safetensors"}}),
        "model.nothing.weight is missing from this shard",
    ),
    "bad index": (index_is("{"), "model.safetensors.index.json is corrupt"),
    "index without a map": (index_is({}), "model.safetensors.index.json is corrupt"),
    "index with a list": (index_is({"weight_map": []}), "model.safetensors.index.json is corrupt"),
    "index of lists": (
        index_is({"weight_map": {"model.norm.weight": ["a"]}}),
        "model.safetensors.index.json is corrupt",
    ),
}


@pytest.mark.parametrize(("break_it", "text"), FAULTS.values(), ids=FAULTS.keys())
def test_a_bad_directory_is_refused_and_its_fault_named(
    break_it: Break, text: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model")
    # Its ids are those of config.json then.
    (path / "generation_config.json").unlink()
    break_it(path)
    with pytest.raises(BadModel, match=text) as caught:
        load_stack(path)
    assert str(tmp_path) in caught.value.message


def test_an_unknown_element_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="int4"):
        read_config(write_model(tmp_path / "model"), "int4")


def test_end_ids_of_the_generation_config_rule(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model")
    file = path / "generation_config.json"
    assert read_config(path).eos_token_ids == (EOS_ID,)
    file.write_text(json.dumps({"eos_token_id": [5, 7]}))
    assert read_config(path).eos_token_ids == (5, 7)
    file.write_text(json.dumps({}))
    assert read_config(path).eos_token_ids == (EOS_ID,)
    file.unlink()
    edit_config(path, eos_token_id=None)
    assert read_config(path).eos_token_ids in ((), (EOS_ID,))


@pytest.mark.parametrize(
    ("kind", "windows"),
    [
        ("llama", (None,) * 4),
        ("mistral-window", (WINDOW,) * 4),
        ("qwen2", (None,) * 4),
        ("qwen2-window", (None, None, WINDOW, WINDOW)),
        ("qwen3", (None,) * 4),
    ],
)
def test_windows_are_read_layer_by_layer(
    kind: str, windows: tuple[int | None, ...], model_path: Callable[[str], Path]
) -> None:
    assert read_config(model_path(kind)).windows == windows


def test_fingerprints_tell_weights_and_element_types_apart(tmp_path: Path) -> None:
    paths = [
        write_model(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, same, other = (read_config(path).fingerprint for path in paths)
    assert first == same
    assert first != other
    assert first != read_config(paths[0], "bfloat16").fingerprint
