"""The files of draft adapters: found where a setting points, refused where they do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import BadModel
from shared.model.config import ModelConfig, read_config
from shared.model.draft_adapter_file import (
    CARD_NAME,
    FOLDER,
    TENSORS_NAME,
    AdapterOrigin,
    write_draft_adapter,
)
from tests.draft_adapter_builder import make_draft_adapter
from tests.model_builder import write_model

ORIGIN = AdapterOrigin("words 100%", 7)


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    return read_config(write_model(tmp_path / "model"))


def write(config: ModelConfig, folder: Path, exit_layer: int = 2) -> Path:
    adapter = make_draft_adapter(config, exit_layer)
    return write_draft_adapter(adapter, config.adapter_host, ORIGIN, folder)


def exits_of(config: ModelConfig, wish: str) -> list[int]:
    return [each.exit_layer for each in config.find_draft_adapters(wish)]


def test_an_adapter_comes_back_as_it_was_written(config: ModelConfig) -> None:
    own = write(config, config.path / FOLDER)
    [found] = config.find_draft_adapters("auto")
    written = make_draft_adapter(config, 2)
    assert (found.exit_layer, found.layout, found.rms_eps) == (2, written.layout, written.rms_eps)
    for name, tensor in written.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
    card = json.loads((own / CARD_NAME).read_text(encoding="utf-8"))
    assert (card["data"], card["num_steps"]) == ("words 100%", 7)


def test_settings_find_all_one_or_none(config: ModelConfig, tmp_path: Path) -> None:
    assert exits_of(config, "auto") == []
    beside, other = config.path / FOLDER, tmp_path / "other"
    write(config, beside, 3)
    write(config, beside, 1)
    own = write(config, other, 2)
    assert exits_of(config, "auto") == [1, 3]
    assert exits_of(config, "off") == []
    for path in (other, own, own / TENSORS_NAME):
        assert exits_of(config, str(path)) == [2]


def test_the_model_is_the_same_with_adapters_beside_it(config: ModelConfig) -> None:
    write(config, config.path / FOLDER)
    assert read_config(config.path).fingerprint == config.fingerprint


def test_the_digest_tells_adapters_apart(config: ModelConfig, tmp_path: Path) -> None:
    folders = [write(config, tmp_path / name) for name in ("a", "b")]
    write_draft_adapter(
        make_draft_adapter(config, 2, seed=9), config.adapter_host, ORIGIN, tmp_path
    )
    first, same, other = (
        config.find_draft_adapters(str(path))[0].digest for path in (*folders, tmp_path / "exit-2")
    )
    assert first == same != other


def edit_card(**changes: Any) -> Callable[[Path], None]:
    def edit(own: Path) -> None:
        card = json.loads((own / CARD_NAME).read_text(encoding="utf-8"))
        (own / CARD_NAME).write_text(json.dumps(card | changes), encoding="utf-8")

    return edit


def break_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(own: Path) -> None:
        import hashlib

        tensors = load_file(own / TENSORS_NAME)
        change(tensors)
        save_file(tensors, own / TENSORS_NAME)
        digest = hashlib.sha256((own / TENSORS_NAME).read_bytes()).hexdigest()
        edit_card(tensors_sha256=digest)(own)

    return edit


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "other weights": (edit_card(weights_fingerprint="0" * 32), "trained for other weights"),
    "other rotation": (edit_card(rope={"rope_theta": 5.0}), "another rotary embedding"),
    "other heads": (edit_card(head_size=32), "has wq as"),
    "exit beyond the model": (
        edit_card(exit_layer=4),
        r"exit layer 4, the model's lie in \[1, 3\]",
    ),
    "exit 0": (edit_card(exit_layer=0), "no sound `exit_layer`"),
    "no epsilon": (edit_card(rms_eps=0), "no sound `rms_eps`"),
    "other version": (edit_card(format_version=2), "format version 2, this release reads 1"),
    "torn write": (lambda own: (own / TENSORS_NAME).write_bytes(b"x"), "was not written for"),
    "no tensors": (lambda own: (own / TENSORS_NAME).unlink(), "lacks its draft_adapter.safetens"),
    "no card": (lambda own: (own / CARD_NAME).unlink(), "lacks its draft_adapter.json"),
    "no JSON": (lambda own: (own / CARD_NAME).write_text("{"), "cannot be read"),
    "no object": (lambda own: (own / CARD_NAME).write_text("[]"), "is no object"),
    "missing tensor": (break_tensors(lambda found: found.pop("wo")), "holds other tensors than"),
    "no number": (break_tensors(lambda found: found["wk"].fill_(torch.nan)), "that are no numbers"),
    "other shape": (
        break_tensors(lambda found: found.update(norm_in=torch.ones(3))),
        r"has norm_in as torch.float32 \[3\], not \[64\]",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_refused_in_words_that_say_how_to_mend_it(
    name: str, config: ModelConfig
) -> None:
    spoil, message = FAULTS[name]
    own = write(config, config.path / FOLDER)
    spoil(own)
    with pytest.raises(BadModel, match=message) as raised:
        config.find_draft_adapters(str(own))
    text = str(raised.value.message)
    assert "train it anew" in text and "SHORTSTACK_MODEL__DRAFT_ADAPTERS=off" in text
    assert "\n" not in text


def test_another_head_layout_is_refused(config: ModelConfig, tmp_path: Path) -> None:
    other = read_config(write_model(tmp_path / "other", num_key_value_heads=4))
    write(other, tmp_path / "adapters")
    with pytest.raises(BadModel, match="is for heads HeadLayout"):
        config.find_draft_adapters(str(tmp_path / "adapters"))


def test_a_folder_without_adapters_or_with_two_of_one_exit_is_refused(
    config: ModelConfig, tmp_path: Path
) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BadModel, match="holds no draft adapter"):
            config.find_draft_adapters(str(path))
    folder = tmp_path / "twice"
    write(config, folder).rename(folder / "copy")
    write(config, folder)
    with pytest.raises(BadModel, match="two draft adapters of one exit layer"):
        config.find_draft_adapters(str(folder))
