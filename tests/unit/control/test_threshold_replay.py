"""Stop thresholds by replay: rounds, rates, gains and chances against hand-made tapes."""

from collections.abc import Callable
from random import Random

import pytest

from shared.control.threshold_replay import (
    DRAFT_LENS,
    MAX_GAIN,
    SHARES,
    best_threshold,
    replay_accepted,
)
from shared.speculation.tape import ExitTrack, Tape, rounds_of

BITS = "11011101"


def track(bits: str, confidences: list[float] | None = None) -> ExitTrack:
    return ExitTrack([bit == "1" for bit in bits], confidences or [0.5] * len(bits))


def cost(fixed: float, per_draft: float) -> Callable[[int], float]:
    """Return C(k): a plain step takes `fixed` as well."""
    return lambda k: fixed + per_draft * k


def random_track(seed: int, num_positions: int = 192, sharpness: float = 1.0) -> ExitTrack:
    """Return a tape whose confidences tell matches from mismatches, the better the sharper."""
    random = Random(seed)
    matches = [random.random() < 0.7 for _ in range(num_positions)]
    confidences = [
        min(1.0, max(0.0, 0.6 + sharpness * (0.3 if m else -0.3) + random.gauss(0, 0.1)))
        for m in matches
    ]
    return ExitTrack(matches, confidences)


@pytest.mark.parametrize(
    ("bits", "draft_len", "accepted"),
    [
        (BITS, 2, [2, 2, 0, 1]),
        (BITS, 1, [1, 0, 1, 1, 1]),
        (BITS, 8, [2, 3, 1]),
        (BITS, 0, [0] * 8),
        ("1111", 8, [4]),
        ("0000", 8, [0, 0, 0, 0]),
    ],
)
def test_rounds_begin_behind_the_token_that_follows_the_kept_drafts(
    bits: str, draft_len: int, accepted: list[int]
) -> None:
    assert replay_accepted([track(bits)], 0.0, draft_len) == accepted


def test_rounds_do_not_reach_across_runs() -> None:
    assert replay_accepted([track("1111"), track("1101")], 0.0, 3) == [3, 2, 1]


def test_the_draft_that_stops_is_verified_too() -> None:
    run = track("1111111", [0.9, 0.2, 0.9, 0.2, 0.9, 0.9, 0.9])
    assert replay_accepted([run], 0.5, 4) == [2, 1, 2]
    assert replay_accepted([run], 0.2, 4) == [4, 2]


@pytest.mark.parametrize("seed", range(5))
def test_kept_drafts_are_those_of_a_tape_replayed_in_full(seed: int) -> None:
    run = random_track(seed)
    tape = Tape(192, {8: run}, num_unused=100)
    for threshold in (0.0, 0.3, 0.5, 0.7, 0.9):
        for draft_len in DRAFT_LENS:
            rounds = rounds_of(tape, 8, draft_len, threshold)
            expected = [each.num_accepted for each in rounds]
            assert replay_accepted([run], threshold, draft_len) == expected


def slow_rate(
    run: ExitTrack, threshold: float, draft_len: int, cost_ns: Callable[[int], float]
) -> float:
    """Return tokens per ns of an arm, by the definition."""
    start, num_tokens, total_ns, end = 0, 0, 0.0, len(run.matches)
    while start < end:
        num_drafted = num_kept = 0
        is_intact = True
        while num_drafted < draft_len:
            if start + num_drafted == end:
                if is_intact:
                    break
                num_drafted = draft_len
                break
            place = start + num_drafted
            num_drafted += 1
            is_intact = is_intact and run.matches[place]
            num_kept += is_intact
            if run.confidences[place] < threshold:
                break
        num_tokens += num_kept + 1
        total_ns += cost_ns(num_drafted)
        start += num_kept + 1
    return num_tokens / total_ns


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cost_ns", [cost(100, 20), cost(100, 60)], ids=["cheap", "dear"])
def test_the_best_arm_is_the_best_of_all_by_definition(
    seed: int, cost_ns: Callable[[int], float]
) -> None:
    run = random_track(seed)
    own = slow_rate(run, 0.0, 3, cost_ns)
    ordered = sorted(run.confidences)
    rates = {
        (threshold, draft_len): slow_rate(run, threshold, draft_len, cost_ns)
        for threshold in (0.0, *(ordered[int(share * len(ordered))] for share in SHARES))
        for draft_len in DRAFT_LENS
    }
    best = max(rates, key=lambda arm: rates[arm])
    choice = best_threshold([run], cost_ns, 3)
    assert choice is not None
    assert (choice.stop_threshold, choice.draft_len) == best
    assert choice.gain == pytest.approx(rates[best] / own)


def test_sharp_confidences_gain_and_empty_ones_do_not() -> None:
    sharp = best_threshold([random_track(1, sharpness=1.0)], cost(100, 30), 2)
    assert sharp is not None
    assert sharp.gain > 1.1
    assert 0.4 <= sharp.stop_threshold <= 0.75
    flat = best_threshold([track("1101" * 48)], cost(100, 30), 4)
    assert flat is not None
    assert (flat.stop_threshold, flat.draft_len, flat.gain) == (0.0, 4, 1.0)


def test_a_gain_of_less_than_two_percent_changes_nothing() -> None:
    # 12 is only a little better than 6 where everything matches.
    run = track("1" * 189)
    choice = best_threshold([run], cost(1000, 990), 6)
    assert choice is not None
    assert (choice.stop_threshold, choice.draft_len, choice.gain) == (0.0, 6, 1.0)


def test_gains_are_not_believed_beyond_a_bound() -> None:
    choice = best_threshold([track("1" * 180)], cost(100, 1), 1)
    assert choice is not None
    assert (choice.draft_len, choice.gain) == (12, MAX_GAIN)


def test_off_as_the_setting_without_a_threshold_is_a_plain_step_per_token() -> None:
    choice = best_threshold([track("0" * 64)], cost(100, 50), 0)
    assert choice is not None
    assert (choice.draft_len, choice.gain) == (0, 1.0)
    easy = best_threshold([track("1" * 63)], cost(100, 50), 0)
    assert easy is not None
    assert easy.draft_len == 12
    assert easy.gain == MAX_GAIN


@pytest.mark.parametrize(("num_positions", "is_enough"), [(15, False), (16, True)])
def test_too_short_tapes_tell_nothing(num_positions: int, is_enough: bool) -> None:
    runs = [track("1" * 9), track("1" * (num_positions - 9))]
    assert (best_threshold(runs, cost(100, 10), 2) is not None) is is_enough


def test_no_arm_drafts_longer_than_allowed() -> None:
    choice = best_threshold([track("1" * 180)], cost(100, 1), 1, longest=5)
    assert choice is not None
    assert choice.draft_len == 4


def test_tapes_are_not_changed_and_give_the_same_again() -> None:
    runs = [random_track(3, 100), random_track(4, 92)]
    matches = [list(run.matches) for run in runs]
    first = best_threshold(runs, cost(100, 30), 3)
    assert best_threshold(runs, cost(100, 30), 3) == first
    assert [list(run.matches) for run in runs] == matches
