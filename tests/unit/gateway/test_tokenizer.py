"""Prompts begin as the model's configuration says; broken directories are refused at start."""

import json
from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from services.gateway.tokenizer import ModelLimits, ModelTokenizer, load_limits, load_tokenizer
from shared.errors import BadModel
from tests.tokenizer_builder import END, byte_level_tokenizer, write_model_directory


@pytest.mark.parametrize("adds_bos", [True, False], ids=["processor_adds", "processor_silent"])
@pytest.mark.parametrize(
    ("config", "expected"),
    [({}, None), ({"add_bos_token": True}, True), ({"add_bos_token": False}, False)],
)
def test_the_configuration_decides_about_bos(
    adds_bos: bool, config: dict[str, bool], expected: bool | None
) -> None:
    tokenizer = byte_level_tokenizer()
    bos_id = tokenizer.token_to_id(END)
    if adds_bos:
        tokenizer.post_processor = TemplateProcessing(
            single=f"{END} $A", special_tokens=[(END, bos_id)]
        )
    ids = ModelTokenizer(tokenizer, {**config, "bos_token": {"content": END}}).encode("Once")
    assert (ids[0] == bos_id) is (adds_bos if expected is None else expected)
    assert ids.count(bos_id) <= 1


def test_truncation_and_padding_of_the_file_are_off() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    text = "Once upon a time"
    assert ModelTokenizer(tokenizer, {}).encode(text) == tuple(
        byte_level_tokenizer().encode(text).ids
    )


def test_a_model_directory_is_read(tmp_path: Path) -> None:
    tokenizer = write_model_directory(tmp_path, max_context_len=64)
    assert load_limits(tmp_path) == ModelLimits(tokenizer.get_vocab_size(), 64)
    assert load_tokenizer(tmp_path).encode("Once") == tuple(tokenizer.encode("Once").ids)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", None, "missing"),
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("tokenizer_config.json", "{", "tokenizer_config.json"),
        ("tokenizer_config.json", "[]", "no JSON object"),
        ("config.json", None, "vocab_size"),
        ("config.json", json.dumps({"vocab_size": 3}), "max_position_embeddings"),
    ],
)
def test_a_broken_directory_is_refused(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    write_model_directory(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadModel, match=message):
        load_tokenizer(tmp_path)
        load_limits(tmp_path)
