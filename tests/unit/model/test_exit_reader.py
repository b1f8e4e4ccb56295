"""What every exit makes of a text: equal to the logits of one pass, whatever the chunks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.ids import TokenId
from shared.model import exit_reader
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack, load_stack
from tests.golden.reference import PlainPass, make_prompt
from tests.model_builder import NUM_LAYERS

START = 5


@pytest.fixture(scope="module")
def stack(model_path: Callable[[str], Path]) -> LayerStack:
    return load_stack(model_path("llama"))


@pytest.fixture
def text() -> list[TokenId]:
    return [TokenId(token) for token in make_prompt(3, 40)]


def expected(
    stack: LayerStack, text: list[TokenId], exit_layer: int
) -> tuple[list[int], list[float]]:
    """Return the choices for positions [START, T) and their probabilities, from one pass."""
    logits = PlainPass(stack, text).logits_of_exit(exit_layer)[START - 1 : -1]
    return logits.argmax(-1).tolist(), logits.softmax(-1).amax(-1).tolist()


@pytest.mark.parametrize(("prefill_chunk_len", "head_chunk_len"), [(512, 64), (7, 3), (4, 1)])
def test_choices_of_all_exits_are_those_of_one_pass(
    prefill_chunk_len: int,
    head_chunk_len: int,
    stack: LayerStack,
    text: list[TokenId],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exit_reader, "PREFILL_CHUNK_LEN", prefill_chunk_len)
    monkeypatch.setattr(exit_reader, "HEAD_CHUNK_LEN", head_chunk_len)
    found = ExitReader(stack, len(text)).read(text, START)
    assert list(found) == list(range(1, NUM_LAYERS + 1))
    for exit_layer, choices in found.items():
        tokens, confidences = expected(stack, text, exit_layer)
        assert choices.tokens == tokens
        assert choices.confidences == pytest.approx(confidences, abs=1e-5)


def test_a_reader_reads_one_text_after_the_other(stack: LayerStack, text: list[TokenId]) -> None:
    reader = ExitReader(stack, len(text))
    other = [TokenId(token) for token in make_prompt(9, 31)]
    first = reader.read(text, START)
    assert len(reader.read(other, 30)[1].tokens) == 1
    assert reader.read(text, START)[2].tokens == first[2].tokens


def test_nothing_is_read_behind_the_last_token(stack: LayerStack, text: list[TokenId]) -> None:
    found = ExitReader(stack, len(text)).read(text, len(text))
    assert all(choices.tokens == [] for choices in found.values())


def test_a_draft_head_of_its_own_reads_all_exits_but_the_last(
    stack: LayerStack, text: list[TokenId], monkeypatch: pytest.MonkeyPatch
) -> None:
    score_drafts = stack.score_drafts
    monkeypatch.setattr(stack, "score_drafts", lambda z_RD: -score_drafts(z_RD))
    found = ExitReader(stack, len(text)).read(text, START)
    logits = PlainPass(stack, text).logits_of_exit(2)[START - 1 : -1]
    assert found[2].tokens == logits.argmin(-1).tolist()
    assert found[NUM_LAYERS].tokens == expected(stack, text, NUM_LAYERS)[0]
