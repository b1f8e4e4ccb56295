"""Counts of rounds: every sum is the one that a session's own summary makes."""

from hypothesis import given
from hypothesis import strategies as st

from services.verify.round_counts import RoundCounts, RoundKind
from shared.speculation.vocabulary import SpeculationSummary


@st.composite
def rounds(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Return exit layer, drafted, accepted and emitted of a round."""
    num_drafted = draw(st.integers(0, 5))
    num_accepted = draw(st.integers(0, num_drafted))
    # An end may cut the target's own token off, and accepted ones are counted as far as emitted.
    is_cut = draw(st.booleans()) and num_accepted > 0
    return draw(st.integers(1, 3)), num_drafted, num_accepted, num_accepted + (not is_cut)


def counted(played: list[tuple[int, int, int, int]]) -> tuple[RoundCounts, SpeculationSummary]:
    counts, summary = RoundCounts(), SpeculationSummary()
    for exit_layer, *numbers in played:
        counts.note("layerskip", exit_layer, "goodput", *numbers)
        summary.count(*numbers)
    return counts, summary


@given(st.lists(rounds()))
def test_sums_equal_those_of_a_summary(played: list[tuple[int, int, int, int]]) -> None:
    counts, summary = counted(played)
    assert counts.total(lambda kind: kind.num_drafted) == summary.num_draft_tokens
    assert counts.total(lambda kind: kind.num_accepted) == summary.num_accepted_tokens
    assert counts.total(lambda kind: kind.num_drafted > 0) == summary.num_drafts
    assert sum(counts.by_source().values()) == counts.total(lambda kind: kind.num_emitted)
    assert counts.by_source()["accepted"] == summary.num_accepted_tokens


@given(st.lists(rounds()))
def test_positions_fall_and_add_up_to_the_accepted(
    played: list[tuple[int, int, int, int]],
) -> None:
    counts, summary = counted(played)
    by_position = counts.accepted_by_position()
    assert list(by_position) == [str(index) for index in range(len(by_position))]
    assert list(by_position.values()) == sorted(by_position.values(), reverse=True)
    assert sum(by_position.values()) == summary.num_accepted_tokens
    histogram = summary.acceptance_histogram
    for position, num_accepted in by_position.items():
        assert num_accepted == sum(histogram[int(position) + 1 :])


@given(st.lists(rounds()))
def test_a_place_is_reached_by_what_was_kept_before_it(
    played: list[tuple[int, int, int, int]],
) -> None:
    counts, _ = counted(played)
    reached, kept = counts.reached(), counts.kept()
    for key, num_kept in kept.items():
        assert num_kept <= reached[key]
    for (exit_layer, place), num_reached in reached.items():
        if place != "1":
            assert num_reached <= kept[exit_layer, str(int(place) - 1)]


def test_a_round_without_drafts_is_off_whatever_was_decided() -> None:
    counts = RoundCounts()
    counts.note("layerskip", 4, "goodput", 0, 0, 1)
    counts.note("off", 0, "goodput", 0, 0, 1)
    assert list(counts) == [(RoundKind("off", 0, "goodput", 0, 0, 1, 0), 2)]
    assert counts.by_source() == {"plain": 2, "accepted": 0, "recovered": 0, "bonus": 0}
    assert not counts.reached()


def test_the_targets_own_token_is_bonus_behind_a_draft_kept_whole() -> None:
    counts = RoundCounts()
    counts.note("layerskip", 2, "static", 3, 3, 4)
    counts.note("layerskip", 2, "static", 3, 1, 2)
    counts.note("layerskip", 2, "static", 3, 2, 2)
    assert counts.by_source() == {"plain": 0, "accepted": 6, "recovered": 1, "bonus": 1}


def test_of_a_tree_a_place_counts_once_however_many_drafts_stood_there() -> None:
    counts = RoundCounts()
    counts.note("layerskip", 2, "static", 6, 2, 3, 2)
    counts.note("layerskip", 2, "static", 6, 1, 2, 2)
    assert counts.by_source() == {"plain": 0, "accepted": 3, "recovered": 1, "bonus": 1}
    assert counts.reached() == {("2", "1"): 2.0, ("2", "2"): 2.0}
    assert counts.kept() == {("2", "1"): 2.0, ("2", "2"): 1.0}
    assert counts.total(lambda kind: kind.num_drafted) == 12
