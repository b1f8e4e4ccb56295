"""The file of exit adapters: what is written is read, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from shared.errors import BadModel
from shared.model.config import ModelConfig, read_config
from shared.model.exit_adapter_file import FILE_NAME, FOLDER, write_exit_adapters
from shared.model.exit_adapters import ExitAdapters
from shared.model.layer_stack import Heads, load_stack
from shared.model.weights import weights_fingerprint
from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import OFF
from tests.adapter_builder import RANK, make_adapters
from tests.exit_files import Change, damage, header, tensor
from tests.model_builder import HIDDEN_SIZE, write_model

NUM_LAYERS = 3
EXITS = (1, 2)


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    return read_config(write_model(tmp_path / "model", num_layers=NUM_LAYERS))


@pytest.fixture
def adapters(config: ModelConfig) -> ExitAdapters:
    return make_adapters(config, EXITS)


def assert_equal(found: ExitAdapters | None, expected: ExitAdapters) -> None:
    assert found is not None
    assert found.weights_fingerprint == expected.weights_fingerprint
    assert found.exit_layers == expected.exit_layers
    for exit_layer, one in expected.by_exit.items():
        assert torch.equal(found.by_exit[exit_layer].down_MD, one.down_MD)
        assert torch.equal(found.by_exit[exit_layer].up_DM, one.up_DM)


def test_what_was_written_is_found(config: ModelConfig, adapters: ExitAdapters) -> None:
    assert config.find_exit_adapters(AUTO) is None
    path = write_exit_adapters(adapters, config.path)
    assert path == config.path / FOLDER / FILE_NAME
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]
    assert_equal(config.find_exit_adapters(AUTO), adapters)


def test_the_setting_says_whether_and_which(
    config: ModelConfig, adapters: ExitAdapters, tmp_path: Path
) -> None:
    write_exit_adapters(adapters, config.path)
    other = make_adapters(config, (2,), seed=9)
    elsewhere = write_exit_adapters(other, tmp_path)
    assert config.find_exit_adapters(OFF) is None
    assert_equal(config.find_exit_adapters(str(elsewhere)), other)
    assert_equal(config.find_exit_adapters(str(elsewhere.parent)), other)


def test_a_model_is_the_same_model_with_adapters_beside_it(
    config: ModelConfig, adapters: ExitAdapters
) -> None:
    before, weights = config.fingerprint, weights_fingerprint(config.path)
    write_exit_adapters(adapters, config.path)
    assert read_config(config.path).fingerprint == before
    assert weights_fingerprint(config.path) == weights
    model = AutoModelForCausalLM.from_pretrained(config.path)
    assert not any("exits" in name for name in model.state_dict())


def test_adapters_fit_the_weights_in_whatever_type_they_are_served(
    config: ModelConfig, adapters: ExitAdapters
) -> None:
    write_exit_adapters(adapters, config.path)
    stack = load_stack(config.path, "bfloat16", num_layers=1, heads=Heads.DRAFT)
    assert stack.exit_adapters is not None
    assert stack.exit_adapters.by_exit[2].down_MD.dtype == torch.bfloat16


def test_the_file_beside_a_model_is_loaded_by_whoever_drafts(
    config: ModelConfig, adapters: ExitAdapters
) -> None:
    path = write_exit_adapters(adapters, config.path)
    assert_equal(load_stack(config.path).exit_adapters, adapters)
    assert load_stack(config.path, exit_adapters=OFF).exit_adapters is None
    path.write_bytes(b"")
    assert load_stack(config.path, heads=Heads.TARGET).exit_adapters is None
    with pytest.raises(BadModel, match="exit adapters"):
        load_stack(config.path)


def test_files_that_were_asked_for_must_be_there(config: ModelConfig, tmp_path: Path) -> None:
    for wish in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(BadModel, match=r"are not there; .*=off"):
            config.find_exit_adapters(wish)


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (header(format_version="2"), "format version '2', this release reads '1'"),
        (header(format_version=None), "format version None"),
        (header(rank="0"), "no sound `rank`"),
        (header(rank=None), "no sound `rank`"),
        (header(rank="7"), r"exits\.1\.down as .*, not \[7, 64\]"),
        (header(hidden_size="wide"), "no sound `hidden_size`"),
        (header(exit_layers=""), "no sound `exit_layers`"),
        (header(exit_layers="1 two"), "no sound `exit_layers`"),
        (header(exit_layers="2 1"), "do not ascend"),
        (header(exit_layers="1 1"), "do not ascend"),
        (header(exit_layers="1 2 3"), "other tensors"),
        (header(exit_layers="1"), "other tensors"),
        (header(weights_fingerprint="0" * 32), "other weights than the model's"),
        (header(weights_fingerprint=None), "other weights than the model's"),
        (tensor("exits.2.up", None), "other tensors"),
        (tensor("exits.9.up", torch.ones(1)), "other tensors"),
        (tensor("exits.2.up", torch.ones(RANK, HIDDEN_SIZE)), r"exits\.2\.up as .*, not \[64, 3\]"),
        (tensor("exits.1.down", torch.ones(RANK, HIDDEN_SIZE).int()), r"as torch\.int32"),
        (
            tensor("exits.1.down", torch.full((RANK, HIDDEN_SIZE), float("nan"))),
            r"values in exits\.1\.down that are no numbers",
        ),
        (
            tensor("exits.2.up", torch.full((HIDDEN_SIZE, RANK), float("inf"))),
            r"values in exits\.2\.up that are no numbers",
        ),
    ],
)
def test_every_fault_is_told_with_the_way_to_mend_it(
    change: Change, words: str, config: ModelConfig, adapters: ExitAdapters
) -> None:
    path = write_exit_adapters(adapters, config.path)
    damage(path, change)
    assert_told(config, path, words)


def assert_told(config: ModelConfig, path: Path, words: str) -> None:
    """One line that names the file, what is wrong with it, and the ways out."""
    with pytest.raises(BadModel, match=words) as raised:
        config.find_exit_adapters(AUTO)
    message = raised.value.message
    assert str(path) in message and "\n" not in message
    assert "train them anew" in message and "SHORTSTACK_MODEL__EXIT_ADAPTERS=off" in message
    assert config.find_exit_adapters(OFF) is None


@pytest.mark.parametrize("size", [0, 4, 60, 900, -1])
def test_a_file_that_was_cut_off_is_told(
    size: int, config: ModelConfig, adapters: ExitAdapters
) -> None:
    path = write_exit_adapters(adapters, config.path)
    path.write_bytes(path.read_bytes()[:size])
    assert_told(config, path, "cannot be read: ")


def test_files_of_another_kind_are_told(config: ModelConfig, adapters: ExitAdapters) -> None:
    path = write_exit_adapters(adapters, config.path)
    path.write_bytes(b"\xff" * 300)
    assert_told(config, path, "cannot be read: ")
    save_file({"weight": torch.ones(2)}, path)
    assert_told(config, path, "format version None")


def test_adapters_of_other_models_are_refused(
    config: ModelConfig, adapters: ExitAdapters, tmp_path: Path
) -> None:
    wide = read_config(write_model(tmp_path / "wide", num_layers=NUM_LAYERS, hidden_size=32))
    path = write_exit_adapters(make_adapters(wide, EXITS), config.path)
    assert_told(config, path, "hidden size of 32, the model has 64")
    write_exit_adapters(make_adapters(config, (2, NUM_LAYERS)), config.path)
    assert_told(config, path, r"exits in \[2, 3\], the model's lie in \[1, 2\]")
    write_exit_adapters(make_adapters(config, (0, 1)), config.path)
    assert_told(config, path, r"exits in \[0, 1\], the model's lie in \[1, 2\]")
    other = read_config(write_model(tmp_path / "other", num_layers=NUM_LAYERS, seed=1))
    write_exit_adapters(make_adapters(other, EXITS), config.path)
    assert_told(config, path, "other weights")
    write_exit_adapters(replace(adapters, weights_fingerprint=""), config.path)
    assert_told(config, path, "other weights")
