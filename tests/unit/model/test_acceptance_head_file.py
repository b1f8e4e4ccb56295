"""The file of acceptance heads: what is written is read, and nothing else is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import BadModel
from shared.model.acceptance_head_file import (
    FILE_NAME,
    FOLDER,
    parts_of,
    write_acceptance_heads,
)
from shared.model.acceptance_heads import AcceptanceHeads
from shared.model.config import ModelConfig, read_config
from shared.model.weights import weights_fingerprint
from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import OFF
from tests.exit_files import Change, damage, header, tensor
from tests.head_builder import WIDTH, make_heads
from tests.model_builder import HIDDEN_SIZE, write_model

NUM_LAYERS = 3
EXITS = (1, 2)


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    return read_config(write_model(tmp_path / "model", num_layers=NUM_LAYERS))


@pytest.fixture
def heads(config: ModelConfig) -> AcceptanceHeads:
    return make_heads(config, EXITS)


def assert_equal(
    found: AcceptanceHeads | None, expected: AcceptanceHeads, dtype: torch.dtype = torch.float32
) -> None:
    assert found is not None
    assert found.weights_fingerprint == expected.weights_fingerprint
    assert found.exit_layers == expected.exit_layers
    for exit_layer, one in expected.by_exit.items():
        for seen, meant in zip(parts_of(found.by_exit[exit_layer]), parts_of(one), strict=True):
            assert seen.dtype == torch.float32
            assert torch.equal(seen, meant.to(dtype).float())


def test_others_may_read_what_was_written(config: ModelConfig, heads: AcceptanceHeads) -> None:
    assert write_acceptance_heads(heads, config.path).stat().st_mode & 0o777 == 0o644


def test_what_was_written_is_found(config: ModelConfig, heads: AcceptanceHeads) -> None:
    assert config.find_acceptance_heads(AUTO) is None
    path = write_acceptance_heads(heads, config.path)
    assert path == config.path / FOLDER / FILE_NAME
    assert [file.name for file in path.parent.iterdir()] == [FILE_NAME]
    found = config.find_acceptance_heads(AUTO)
    assert_equal(found, heads)
    assert found is not None
    assert (found.width, found.hidden_size) == (WIDTH, HIDDEN_SIZE)


def test_heads_may_be_stored_in_a_narrower_type(
    config: ModelConfig, heads: AcceptanceHeads
) -> None:
    path = write_acceptance_heads(heads, config.path, "float16")
    assert {each.dtype for each in load_file(path).values()} == {torch.float16}
    assert_equal(config.find_acceptance_heads(AUTO), heads, torch.float16)


def test_the_setting_says_whether_and_which(
    config: ModelConfig, heads: AcceptanceHeads, tmp_path: Path
) -> None:
    write_acceptance_heads(heads, config.path)
    other = make_heads(config, (2,), seed=9)
    elsewhere = write_acceptance_heads(other, tmp_path)
    assert config.find_acceptance_heads(OFF) is None
    assert_equal(config.find_acceptance_heads(str(elsewhere)), other)
    assert_equal(config.find_acceptance_heads(str(elsewhere.parent)), other)


def test_a_model_is_the_same_model_with_heads_beside_it(
    config: ModelConfig, heads: AcceptanceHeads
) -> None:
    before, weights = config.fingerprint, weights_fingerprint(config.path)
    write_acceptance_heads(heads, config.path)
    assert read_config(config.path).fingerprint == before
    assert weights_fingerprint(config.path) == weights


def test_files_that_were_asked_for_must_be_there(config: ModelConfig, tmp_path: Path) -> None:
    for wish in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(BadModel, match=r"are not there; .*=off"):
            config.find_acceptance_heads(wish)


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (header(format_version="1"), "format version '1', this release reads '2'"),
        (header(width="0"), "no sound `width`"),
        (header(width=None), "no sound `width`"),
        (header(width="7"), r"exits\.1\.down as .*, not \[7, 193\]"),
        (header(hidden_size="32"), r"exits\.1\.down as .*, not \[3, 97\]"),
        (header(exit_layers=""), "no sound `exit_layers`"),
        (header(exit_layers="1"), "other tensors"),
        (header(weights_fingerprint="0" * 32), "other weights than the model's"),
        (tensor("exits.2.offset", None), "other tensors"),
        (tensor("exits.2.extra", torch.ones(1)), "other tensors"),
        (tensor("exits.2.scale", torch.ones(1)), r"exits\.2\.scale as .* \[1\], not \[\]"),
        (tensor("exits.2.up", torch.ones(WIDTH, 1)), r"exits\.2\.up as .*, not \[3\]"),
        (tensor("exits.1.bias", torch.ones(WIDTH).int()), r"as torch\.int32"),
        (tensor("exits.1.scale", torch.tensor(torch.nan)), "that are no numbers"),
        (tensor("exits.1.up", torch.full((WIDTH,), torch.inf)), "that are no numbers"),
    ],
)
def test_every_fault_is_told_with_the_way_to_mend_it(
    change: Change, words: str, config: ModelConfig, heads: AcceptanceHeads
) -> None:
    path = write_acceptance_heads(heads, config.path)
    damage(path, change)
    assert_told(config, path, words)


def assert_told(config: ModelConfig, path: Path, words: str) -> None:
    """One line that names the file, what is wrong with it, and the ways out."""
    with pytest.raises(BadModel, match=words) as raised:
        config.find_acceptance_heads(AUTO)
    message = raised.value.message
    assert str(path) in message and "\n" not in message
    assert "`shortstack train acceptance`" in message
    assert "SHORTSTACK_MODEL__ACCEPTANCE_HEADS=off" in message
    assert config.find_acceptance_heads(OFF) is None


def test_files_of_another_kind_are_told(config: ModelConfig, heads: AcceptanceHeads) -> None:
    path = write_acceptance_heads(heads, config.path)
    path.write_bytes(path.read_bytes()[:-1])
    assert_told(config, path, "cannot be read: ")
    save_file({"weight": torch.ones(2)}, path)
    assert_told(config, path, "format version None")


def test_heads_of_other_models_are_refused(
    config: ModelConfig, heads: AcceptanceHeads, tmp_path: Path
) -> None:
    wide = read_config(write_model(tmp_path / "wide", num_layers=NUM_LAYERS, hidden_size=32))
    path = write_acceptance_heads(make_heads(wide, EXITS), config.path)
    assert_told(config, path, "hidden size of 32, the model has 64")
    write_acceptance_heads(make_heads(config, (2, NUM_LAYERS)), config.path)
    assert_told(config, path, r"exits in \[2, 3\], the model's lie in \[1, 2\]")
    write_acceptance_heads(replace(heads, weights_fingerprint=""), config.path)
    assert_told(config, path, "other weights")
