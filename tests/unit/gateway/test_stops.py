"""Stop strings end the text at the same character, however it is cut into pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.stops import StopHit, StopScanner


def run(stop_strings: list[str], pieces: list[str]) -> tuple[str, str, int]:
    """Return the shown text, the stop string and the number of pieces that were looked at."""
    scanner = StopScanner(stop_strings)
    shown = ""
    for count, piece in enumerate(pieces, start=1):
        result = scanner.push(piece)
        if isinstance(result, StopHit):
            return shown + result.text, result.stop_string, count
        shown += result
    return shown + scanner.flush(), "", len(pieces)


@pytest.mark.parametrize(
    ("stop_strings", "pieces", "expected"),
    [
        (["."], ["Once. Twice"], ("Once", ".", 1)),
        (["END"], ["the E", "N", "D and more"], ("the ", "END", 3)),
        (["END"], ["the E", "N", "X"], ("the ENX", "", 3)),
        (["aab"], ["aa", "ab"], ("a", "aab", 2)),
        (["abcd", "bc"], ["abcd"], ("a", "bc", 1)),
        (["bc", "abc"], ["xabc"], ("x", "abc", 1)),
        (["never"], ["", "text", ""], ("text", "", 3)),
        (["\n\n"], ["one\n", "two\n", "\nthree"], ("one\ntwo", "\n\n", 3)),
    ],
)
def test_the_text_ends_before_the_stop_string_that_is_complete_first(
    stop_strings: list[str], pieces: list[str], expected: tuple[str, str, int]
) -> None:
    assert run(stop_strings, pieces) == expected


@given(
    text=st.text("ab", max_size=30),
    stop_strings=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 30), max_size=6),
)
def test_the_result_does_not_depend_on_the_pieces(
    text: str, stop_strings: list[str], cuts: list[int]
) -> None:
    bounds = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    assert run(stop_strings, pieces)[:2] == run(stop_strings, list(text))[:2]


def test_what_may_begin_a_stop_string_is_held_back_and_nothing_more() -> None:
    scanner = StopScanner(["stop"])
    assert scanner.push("a st") == "a "
    assert scanner.push("ar s") == "star "
    assert scanner.flush() == "s"


def test_tentative_text_completes_a_stop_string_but_is_not_kept() -> None:
    scanner = StopScanner(["\n"])
    assert scanner.push("one", tentative="") == "one"
    assert scanner.push("", tentative="\n") == StopHit("", "\n")
    other = StopScanner(["\n\n"])
    assert other.push("", tentative="\n") == ""
    assert other.push("\nx") == "\nx"
