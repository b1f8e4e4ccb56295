"""Rounds to text: the tokens behind a stop string are cut, the one that completes it counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.text import CompletionText
from services.gateway.tokenizer import ModelTokenizer
from tests.tokenizer_builder import byte_level_tokenizer, prepend_tokenizer

BYTE_LEVEL = ModelTokenizer(byte_level_tokenizer(), {})
PREPEND = ModelTokenizer(prepend_tokenizer(), {})
models = pytest.mark.parametrize("model", [BYTE_LEVEL, PREPEND], ids=["byte_level", "prepend"])
TEXT = "Once upon a time there was a little girl.\nShe liked to play."


def run(
    model: ModelTokenizer, ids: list[int], block_len: int, stop_strings: list[str]
) -> tuple[str, int, str]:
    """Return text, number of tokens that count and stop string, with rounds of one length."""
    completion = CompletionText(model, model.encode("So:"), stop_strings)
    text, num_tokens = "", 0
    for start in range(0, len(ids), block_len):
        piece = completion.push(ids[start : start + block_len])
        text += piece.text
        num_tokens += piece.num_tokens
        if piece.stop_string:
            return text, num_tokens, piece.stop_string
    return text + completion.flush(), num_tokens, ""


@models
@pytest.mark.parametrize("stop_string", ["there", " time the", "girl.\n", "\n", "y.", "absent"])
@pytest.mark.parametrize("block_len", [1, 2, 3, 5, 100])
def test_a_stop_string_cuts_alike_inside_a_block_and_across_rounds(
    model: ModelTokenizer, stop_string: str, block_len: int
) -> None:
    ids = list(model.encode(TEXT))
    text, num_tokens, found = run(model, ids, block_len, [stop_string])
    whole = model.decode([*model.encode("So:"), *ids])[3:]
    assert text == whole.partition(stop_string)[0]
    if stop_string == "absent":
        assert (found, num_tokens) == ("", len(ids))
        return
    first = next(
        count
        for count in range(1, len(ids) + 1)
        if stop_string in model.decode([*model.encode("So:"), *ids[:count]])[3:]
    )
    assert (found, num_tokens) == (stop_string, first)


@models
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), stop=st.text(min_size=1, max_size=3), block_len=st.integers(1, 7))
def test_text_and_count_do_not_depend_on_the_rounds(
    model: ModelTokenizer, text: str, stop: str, block_len: int
) -> None:
    ids = list(model.encode(text))
    assert run(model, ids, block_len, [stop]) == run(model, ids, 1, [stop])


@settings(max_examples=150, deadline=None)
@given(
    ids=st.lists(st.one_of(st.integers(0, 400), st.sampled_from([13, 35, 197, 171])), max_size=25),
    stop=st.sampled_from(["\n", " ", "\n ", "e", "\u00e9"]),
    block_len=st.integers(1, 7),
)
def test_malformed_bytes_do_not_make_the_text_depend_on_the_rounds(
    ids: list[int], stop: str, block_len: int
) -> None:
    assert run(PREPEND, ids, block_len, [stop]) == run(PREPEND, ids, 1, [stop])


@models
@settings(max_examples=60, deadline=None)
@given(
    text=st.text(max_size=40),
    stops=st.lists(st.text(min_size=1, max_size=3), max_size=2),
    block_len=st.integers(1, 7),
)
def test_texts_of_tokens_are_the_text_and_change_nothing(
    model: ModelTokenizer, text: str, stops: list[str], block_len: int
) -> None:
    ids = list(model.encode(text))
    plain = CompletionText(model, model.encode("So:"), stops)
    told = CompletionText(model, model.encode("So:"), stops, has_token_texts=True)
    shown, expected = "", ""
    for start in range(0, len(ids), block_len):
        block = ids[start : start + block_len]
        piece, other = told.push(block), plain.push(block)
        assert "".join(piece.token_texts) == piece.text
        assert len(piece.token_texts) == piece.num_tokens == other.num_tokens
        assert not other.token_texts
        shown, expected = shown + piece.text, expected + other.text
        assert piece.stop_string == other.stop_string
        if piece.stop_string:
            break
    else:
        shown, expected = shown + told.flush(), expected + plain.flush()
    assert shown == expected
