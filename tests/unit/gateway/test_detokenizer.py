"""The joined pieces of a completion equal the whole decode, for every kind of tokenizer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from services.gateway.detokenizer import REPLACEMENT, Detokenizer
from services.gateway.tokenizer import ModelTokenizer
from tests.tokenizer_builder import (
    CORPUS,
    byte_level_tokenizer,
    metaspace_tokenizer,
    prepend_tokenizer,
)

TOKENIZERS: dict[str, Tokenizer] = {
    "byte_level": byte_level_tokenizer(),
    "prepend": prepend_tokenizer(),
    "metaspace": metaspace_tokenizer(),
}
MODELS = {name: ModelTokenizer(tokenizer, {}) for name, tokenizer in TOKENIZERS.items()}
kinds = pytest.mark.parametrize("kind", sorted(MODELS))


def whole(model: ModelTokenizer, prompt_ids: list[int], ids: list[int]) -> str:
    """Return the text of a completion in one go: what both decode to less what the prompt does."""
    prompt_text = model.decode(prompt_ids)
    visible = [id_ for id_ in prompt_ids if id_ not in model.special_ids]
    if visible and visible[-1] in model.byte_ids:
        prompt_text = prompt_text.rstrip(REPLACEMENT)
    return model.decode([*prompt_ids, *ids])[len(prompt_text) :]


def pieces(
    model: ModelTokenizer, prompt_ids: list[int], ids: list[int], lens: list[int]
) -> list[str]:
    """Return the pieces when ids come in blocks of these lengths, over and over."""
    detokenizer = Detokenizer(model, prompt_ids)
    found, start, index = [], 0, 0
    while start < len(ids):
        end = start + lens[index % len(lens)]
        found.append(detokenizer.push(ids[start:end]))
        start, index = end, index + 1
    return [*found, detokenizer.flush()]


def ids_of(kind: str, max_size: int) -> st.SearchStrategy[list[int]]:
    """Return any ids, bytes that form no character and special ids included."""
    top = TOKENIZERS[kind].get_vocab_size() - 1
    byte_like = st.integers(0, 260)
    return st.lists(st.one_of(st.integers(0, top), byte_like), max_size=max_size)


@kinds
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_joined_pieces_of_any_ids_equal_the_whole_decode(kind: str, data: st.DataObject) -> None:
    model = MODELS[kind]
    prompt_ids = data.draw(ids_of(kind, 12), "prompt_ids")
    ids = data.draw(ids_of(kind, 40), "ids")
    lens = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5), "lens")
    assert "".join(pieces(model, prompt_ids, ids, lens)) == whole(model, prompt_ids, ids)


@kinds
@settings(max_examples=150, deadline=None)
@given(prompt=st.text(max_size=20), text=st.text(max_size=40), len_=st.integers(1, 5))
def test_joined_pieces_of_any_text_equal_the_whole_decode(
    kind: str, prompt: str, text: str, len_: int
) -> None:
    model = MODELS[kind]
    prompt_ids, ids = list(model.encode(prompt)), list(model.encode(text))
    assert "".join(pieces(model, prompt_ids, ids, [len_])) == whole(model, prompt_ids, ids)


@kinds
def test_no_piece_of_real_text_splits_a_character(kind: str) -> None:
    model = MODELS[kind]
    for line in CORPUS[:3]:
        for piece in pieces(model, list(model.encode("So: ")), list(model.encode(line)), [1]):
            assert REPLACEMENT not in piece


def test_a_leading_space_of_the_completion_is_kept() -> None:
    for kind in ("prepend", "metaspace"):
        model = MODELS[kind]
        prompt_ids, all_ids = list(model.encode("Once")), list(model.encode("Once upon a time"))
        assert all_ids[: len(prompt_ids)] == prompt_ids
        ids = all_ids[len(prompt_ids) :]
        assert "".join(pieces(model, prompt_ids, ids, [1])) == " upon a time"


def test_byte_level_text_is_not_held_back_longer_than_its_character() -> None:
    model = MODELS["byte_level"]
    ids = list(model.encode("你好, the end"))
    detokenizer = Detokenizer(model, [])
    shown = ""
    for count, id_ in enumerate(ids, start=1):
        shown += detokenizer.push([id_])
        assert shown == model.decode(ids[:count]).rstrip(REPLACEMENT)


def test_an_open_run_of_bytes_can_be_peeked_at_and_is_flushed() -> None:
    model = MODELS["prepend"]
    newline = TOKENIZERS["prepend"].token_to_id("<0x0A>")
    detokenizer = Detokenizer(model, list(model.encode("So")))
    assert detokenizer.push([newline]) == ""
    assert detokenizer.peek() == "\n"
    assert detokenizer.flush() == "\n"


def test_only_a_window_is_decoded_however_long_the_text() -> None:
    class Counting:
        """Counts the ids that are decoded."""

        special_ids = MODELS["byte_level"].special_ids
        byte_ids: frozenset[int] = frozenset()
        longest = 0

        def decode(self, ids: list[int]) -> str:
            self.longest = max(self.longest, len(ids))
            return MODELS["byte_level"].decode(ids)

    counting = Counting()
    ids = list(MODELS["byte_level"].encode("Once upon a time there was. " * 200))
    detokenizer = Detokenizer(counting, ids)
    for start in range(0, len(ids), 5):
        detokenizer.push(ids[start : start + 5])
    assert counting.longest < 20
