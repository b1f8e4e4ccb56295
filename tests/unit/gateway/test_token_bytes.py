"""The bytes of tokens, joined, are the text, whatever kind the tokenizer is of."""

import pytest
from tokenizers import Tokenizer

from services.gateway.detokenizer import find_byte_ids
from services.gateway.token_bytes import TokenBytes
from tests.tokenizer_builder import (
    CORPUS,
    END,
    byte_level_tokenizer,
    metaspace_tokenizer,
    prepend_tokenizer,
)


def token_bytes_of(tokenizer: Tokenizer) -> TokenBytes:
    """Return the bytes of a tokenizer's tokens."""
    return TokenBytes(tokenizer, find_byte_ids(tokenizer.get_vocab()))


@pytest.mark.parametrize("build", [byte_level_tokenizer, prepend_tokenizer, metaspace_tokenizer])
@pytest.mark.parametrize("text", [*CORPUS[:3], "🙂"])
def test_joined_bytes_are_the_text(build: object, text: str) -> None:
    tokenizer: Tokenizer = build()  # type: ignore[operator]
    token_bytes = token_bytes_of(tokenizer)
    joined = b"".join(map(token_bytes.of, tokenizer.encode(text).ids)).decode()
    # The blank that some tokenizers put before a text belongs to its first token.
    assert joined.removeprefix(" ") == text


def test_a_character_may_be_made_of_several_tokens() -> None:
    tokenizer = byte_level_tokenizer(vocab_size=260)
    ids = tokenizer.encode("🙂").ids
    parts = list(map(token_bytes_of(tokenizer).of, ids))
    assert len(parts) > 1
    assert b"".join(parts).decode() == "🙂"


def test_a_special_token_is_its_name_and_an_id_beyond_is_nothing() -> None:
    tokenizer = byte_level_tokenizer()
    token_bytes = token_bytes_of(tokenizer)
    assert token_bytes.of(tokenizer.token_to_id(END)) == END.encode()
    assert token_bytes.special_ids == {tokenizer.token_to_id(END)}
    assert token_bytes.of(tokenizer.get_vocab_size() + 5) == b""
