"""The file of a draft vocabulary: what is written is read, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.errors import BadModel
from shared.speculation.draft_vocab import (
    AUTO,
    FILE_NAME,
    DraftVocab,
    find_draft_vocab,
    parse_draft_vocab,
    tokenizer_fingerprint,
)
from shared.speculation.vocabulary import OFF

VOCAB_SIZE = 20
EOS_IDS = (2, 7)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A directory with a tokenizer, which is all that a draft vocabulary knows of a model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    return tmp_path / "model"


@pytest.fixture
def vocab(model_dir: Path) -> DraftVocab:
    return DraftVocab(
        VOCAB_SIZE, tokenizer_fingerprint(model_dir), 0.75, ("ä.txt", "b.jsonl.xz"), (0, 2, 7, 19)
    )


def find(model_dir: Path, wish: str = AUTO) -> DraftVocab | None:
    return find_draft_vocab(wish, model_dir, VOCAB_SIZE, EOS_IDS)


def test_what_was_written_is_found(model_dir: Path, vocab: DraftVocab, tmp_path: Path) -> None:
    assert find(model_dir) is None
    path = vocab.write(model_dir)
    assert path == model_dir / FILE_NAME
    assert find(model_dir) == vocab
    assert [file.name for file in model_dir.iterdir() if "unfinished" in file.name] == []


def test_the_setting_says_whether_and_which(
    model_dir: Path, vocab: DraftVocab, tmp_path: Path
) -> None:
    vocab.write(model_dir)
    other = replace(vocab, token_ids=(2, 3, 7))
    elsewhere = other.write(tmp_path)
    assert find(model_dir, OFF) is None
    assert find(model_dir, str(elsewhere)) == other
    assert find(model_dir, str(tmp_path)) == other, "a folder stands for the file in it"


def test_a_file_may_be_shared_by_models_with_one_tokenizer(
    model_dir: Path, vocab: DraftVocab
) -> None:
    (model_dir / "config.json").write_text('{"num_hidden_layers": 99}')
    vocab.write(model_dir)
    assert find(model_dir) == vocab


def test_a_file_that_was_asked_for_must_be_there(model_dir: Path, tmp_path: Path) -> None:
    for wish in (str(tmp_path / "none.json"), str(tmp_path)):
        with pytest.raises(BadModel, match=r"No such file.*shortstack draft-vocab.*=off"):
            find(model_dir, wish)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"format_version": None}, "format version None"),
        ({"vocab_size": 21}, "vocabulary of 21, the model has 20"),
        ({"vocab_size": "20"}, "`vocab_size`"),
        ({"vocab_size": True}, "`vocab_size`"),
        ({"tokenizer_fingerprint": "0" * 32}, "another tokenizer"),
        ({"tokenizer_fingerprint": None}, "`tokenizer_fingerprint`"),
        ({"coverage": 1.5}, "coverage of 1.5"),
        ({"coverage": -0.1}, "coverage of -0.1"),
        ({"coverage": float("nan")}, "coverage of nan"),
        ({"coverage": "most"}, "`coverage`"),
        ({"corpus": "a.txt"}, "`corpus`"),
        ({"corpus": [1]}, "names its corpus"),
        ({"token_ids": None}, "`token_ids`"),
        ({"token_ids": []}, "too few"),
        ({"token_ids": [2]}, "too few"),
        ({"token_ids": [0, 2, 7.5]}, "no integer"),
        ({"token_ids": [0, 2, "7"]}, "no integer"),
        ({"token_ids": [0, 2, True]}, "no integer"),
        ({"token_ids": [0, 7, 2]}, "do not ascend"),
        ({"token_ids": [0, 2, 2, 7]}, "id 2 twice"),
        ({"token_ids": [-1, 2, 7]}, r"outside \[0, 20\)"),
        ({"token_ids": [2, 7, 20]}, r"outside \[0, 20\)"),
        ({"token_ids": [0, 2, 3]}, r"end-of-sequence ids \[7\]"),
    ],
)
def test_every_fault_is_told_with_the_way_to_mend_it(
    changes: dict[str, Any], words: str, model_dir: Path, vocab: DraftVocab
) -> None:
    path = vocab.write(model_dir)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BadModel, match=words) as raised:
        find(model_dir)
    message = raised.value.message
    assert str(path) in message
    assert "shortstack draft-vocab" in message and "SHORTSTACK_MODEL__DRAFT_VOCAB=off" in message
    assert "\n" not in message
    assert find(model_dir, OFF) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"7", b"\xff\xfe", b'{"format_version": 1'])
def test_what_is_no_such_file_is_refused(content: bytes, model_dir: Path) -> None:
    (model_dir / FILE_NAME).write_bytes(content)
    with pytest.raises(BadModel, match=FILE_NAME):
        find(model_dir)


def test_another_tokenizer_is_another_fingerprint(model_dir: Path, tmp_path: Path) -> None:
    before = tokenizer_fingerprint(model_dir)
    (model_dir / "tokenizer.json").write_text('{"model": {}}')
    assert tokenizer_fingerprint(model_dir) != before
    assert tokenizer_fingerprint(tmp_path) == "", "without a tokenizer there is nothing to compare"


def test_the_text_alone_is_checked_without_a_model(vocab: DraftVocab, tmp_path: Path) -> None:
    assert parse_draft_vocab(vocab.write(tmp_path).read_text(encoding="utf-8")) == vocab
