"""The tokenizer of synthetic models: ids -> text -> ids, and any text through bytes."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from shortstack.bench.words import (
    BOS_ID,
    EOS_ID,
    SPECIALS,
    UNK_ID,
    first_word_id,
    vocabulary,
    write_tokenizer,
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    write_tokenizer(tmp_path, 16384, 4096)
    return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))


def test_every_id_is_a_token_of_its_own() -> None:
    tokens = vocabulary(16384)
    assert len(tokens) == len(set(tokens)) == 16384
    assert [tokens[id_] for id_ in (UNK_ID, BOS_ID, EOS_ID)] == list(SPECIALS)


def test_the_file_holds_the_whole_vocabulary_in_order(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 16384
    assert [tokenizer.id_to_token(id_) for id_ in range(16384)] == vocabulary(16384)


@pytest.mark.parametrize("seed", range(3))
def test_words_survive_the_way_through_text(tokenizer: Tokenizer, seed: int) -> None:
    ids = random.Random(seed).choices(range(first_word_id(16384), 16384), k=300)
    assert tokenizer.encode(tokenizer.decode(ids)).ids == ids


@pytest.mark.parametrize(
    "text", ["Hello, world!\nTwo  spaces", "é 漢字 🙂", "def f(x):\n\treturn 1"]
)
def test_any_text_is_spelt_in_bytes_and_never_unknown(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert UNK_ID not in ids
    assert tokenizer.decode(ids) == text


def test_a_vocabulary_without_room_for_words_is_refused() -> None:
    with pytest.raises(ValueError, match="no room for words"):
        first_word_id(261)
