"""Texts joined and cut."""

import pytest

from shared.control.replay.texts import RecordedText, cut, join
from shared.speculation.tape import Tape
from tests.unit.control.replay.builders import random_text, track_of


def text_of(text_id: str, bits: str, num_unused: int = 0) -> RecordedText:
    return RecordedText(text_id, "a", Tape(len(bits), {2: track_of(bits)}, num_unused))


def test_joined_texts_follow_each_other_and_end_like_the_last() -> None:
    joined = join([text_of("x", "110", 7), text_of("y", "01", 5)])
    assert joined.shifts == (3,)
    assert joined.tape.num_unused == 5
    assert joined.tape.tracks[2].matches == [True, True, False, False, True]
    assert joined.tape.tracks[2].confidences == [0.9, 0.9, 0.3, 0.3, 0.9]


def test_a_cut_ends_at_its_limit_unless_it_reaches_the_end() -> None:
    text = text_of("x", "110101", 7)
    inside, rest = cut(text, 1, 4), cut(text, 4, 6)
    assert (inside.tape.num_tokens, inside.tape.num_unused) == (3, 0)
    assert inside.tape.tracks[2].matches == [True, False, True]
    assert (rest.tape.num_tokens, rest.tape.num_unused) == (2, 7)


def test_cut_and_joined_a_text_is_what_it_was() -> None:
    text = random_text("a-1", 4)
    joined = join([cut(text, 0, 77), cut(text, 77, text.tape.num_tokens)])
    assert joined.shifts == (77,)
    for exit_layer, track in text.tape.tracks.items():
        assert list(joined.tape.tracks[exit_layer].matches) == list(track.matches)


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        join([])
    other = RecordedText("z", "a", Tape(1, {3: track_of("1")}))
    with pytest.raises(ValueError, match="same exits"):
        join([text_of("x", "1"), other])
