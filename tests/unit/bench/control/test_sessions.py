"""Sessions made of texts: long enough, mixed, shifted."""

from shortstack.bench.control.sessions import by_kind, long_sessions, mixed, segments, shifted
from tests.unit.control.replay.builders import random_text


def test_texts_are_joined_until_a_session_is_long_enough() -> None:
    texts = [random_text(f"a-{index}", index, num_tokens=50) for index in range(7)]
    sessions = long_sessions(texts, 120)
    # Three texts each; the seventh is left over.
    assert [each.tape.num_tokens for each in sessions] == [150, 150]
    assert sessions[0].kind == "a"
    # A joined text is one subject, not a shift.
    assert sessions[0].shifts == ()
    assert [each.tape.num_tokens for each in long_sessions(texts, 1000)] == [350]


def test_kinds_take_turns_in_a_mixed_workload() -> None:
    texts = [random_text(f"{kind}-{index}", index) for kind in "aab" for index in range(2)]
    kinds = by_kind(texts)
    assert {kind: len(own) for kind, own in kinds.items()} == {"a": 4, "b": 2}
    assert [each.kind for each in mixed(kinds)] == ["a", "b", "a", "b", "a", "a"]


def test_every_pair_of_kinds_shifts_both_ways_in_the_middle() -> None:
    kinds = {kind: [random_text(f"{kind}-0", 1)] for kind in "abc"}
    kinds["short"] = [random_text("short-0", 1, num_tokens=20)]
    sessions = shifted(kinds, 200)
    assert [each.kind for each in sessions] == ["a>b", "a>c", "b>a", "b>c", "c>a", "c>b"]
    for each in sessions:
        assert each.shifts == (100,)
        assert [part.tape.num_tokens for part in segments(each)] == [100, 100]
