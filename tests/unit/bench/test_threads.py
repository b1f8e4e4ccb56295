"""What stacks of different threads are compared by."""

import pytest

from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.threads import Turns, ratios_of
from shortstack.request import PLAIN


def test_ours_is_compared_with_both_others_in_pairs() -> None:
    speeds = {"plain": {"ours": [10.0, 20.0, 30.0], "one": [10.0, 10.0, 30.0], "all": [5.0] * 3}}
    found = ratios_of(speeds)
    assert list(found) == ["plain, ours / one", "plain, ours / all"]
    assert found["plain, ours / one"].median == pytest.approx(1.0)
    assert found["plain, ours / all"].median == pytest.approx(4.0)
    assert found["plain, ours / all"].low == pytest.approx(2.0)


def test_every_text_is_decoded_on_every_stack_once_more_than_it_counts() -> None:
    prompts = [BenchPrompt("a", "kind", (5, 6)), BenchPrompt("b", "kind", (7,))]
    assert Turns(prompts, {"plain": PLAIN, "again": PLAIN}, 8, 4).num_texts == 5 * 2 * 2 * 3
