"""Settings by replay: rounds, tokens and times against hand-made tapes, and by the definition."""

from collections.abc import Callable
from random import Random

import pytest

from shared.control.replay.rounds import play_round
from shared.control.threshold_replay import (
    Score,
    Setting,
    replay_accepted,
    score_settings,
    settings_up_to,
)
from shared.speculation.tape import ExitTrack, Tape
from shared.speculation.vocabulary import LAYERSKIP, Decision

BITS = "11011101"


def track(bits: str, chances: list[float] | None = None) -> ExitTrack:
    return ExitTrack([bit == "1" for bit in bits], chances or [0.5] * len(bits))


def cost(fixed: float, per_draft: float) -> Callable[[int], float]:
    """Return C(k): a plain step takes `fixed` as well."""
    return lambda k: fixed + per_draft * k


def random_track(seed: int, num_positions: int = 192, sharpness: float = 1.0) -> ExitTrack:
    """Return a tape whose chances tell matches from mismatches, the better the sharper."""
    random = Random(seed)
    matches = [random.random() < 0.8 for _ in range(num_positions)]
    chances = [
        min(1.0, max(0.0, 0.7 + sharpness * (0.25 if m else -0.4) + random.gauss(0, 0.1)))
        for m in matches
    ]
    return ExitTrack(matches, chances)


@pytest.mark.parametrize(
    ("bits", "draft_len", "accepted"),
    [
        (BITS, 2, [2, 2, 0, 1]),
        (BITS, 1, [1, 0, 1, 1, 1]),
        (BITS, 8, [2, 3, 1]),
        ("1111", 8, [4]),
        ("0000", 8, [0, 0, 0, 0]),
    ],
)
def test_rounds_begin_behind_the_token_that_follows_the_kept_drafts(
    bits: str, draft_len: int, accepted: list[int]
) -> None:
    assert replay_accepted([track(bits)], Setting(0.0, draft_len)) == accepted


def test_rounds_do_not_reach_across_runs() -> None:
    runs = [track("1111"), track("1101")]
    assert replay_accepted(runs, Setting(0.0, 3)) == [3, 2, 1]


def test_the_draft_whose_path_is_too_unlikely_is_the_last_and_is_verified() -> None:
    run = track("1111111", [0.9, 0.8, 0.9, 0.2, 0.9, 0.9, 0.9])
    # .9, .72, .648 go on; .13 is the last. Then .9, .81.
    assert replay_accepted([run], Setting(0.6, 8)) == [4, 2]
    # .9, .72 is the last, then .2 alone.
    assert replay_accepted([run], Setting(0.75, 8)) == [2, 1, 2]
    assert replay_accepted([run], Setting(0.0, 8)) == [7]


@pytest.mark.parametrize("seed", range(5))
def test_kept_drafts_are_those_of_rounds_played_over_the_tape(seed: int) -> None:
    run = random_track(seed)
    tape = Tape(192, {8: run}, num_unused=100)
    for setting in settings_up_to(16):
        decision = Decision(LAYERSKIP, 8, setting.draft_len, setting.stop_threshold, by_chance=True)
        place, expected = 0, []
        while place < 192:
            played = play_round(tape, place, decision)
            expected.append(played.num_accepted)
            place += played.num_emitted
        assert replay_accepted([run], setting) == expected


def slow_score(run: ExitTrack, setting: Setting, cost_ns: Callable[[int], float]) -> Score:
    """Return tokens and ns of a setting, by the definition."""
    start, num_tokens, total_ns, end = 0, 0, 0.0, len(run.matches)
    while start < end:
        num_drafted = num_kept = 0
        is_intact, chance = True, 1.0
        while num_drafted < setting.draft_len:
            place = start + num_drafted
            if place == end:
                # Unspoilt drafts end with the run; what follows others is not known.
                num_drafted = num_drafted if is_intact else setting.draft_len
                break
            num_drafted += 1
            is_intact = is_intact and run.matches[place]
            num_kept += is_intact
            chance *= run.confidences[place]
            if chance < setting.stop_threshold:
                break
        num_tokens += num_kept + 1
        total_ns += cost_ns(num_drafted)
        start += num_kept + 1
    return Score(num_tokens, total_ns)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost_ns", [cost(100, 20), cost(100, 60)], ids=["cheap", "dear"])
def test_scores_are_those_by_the_definition(seed: int, cost_ns: Callable[[int], float]) -> None:
    run = random_track(seed)
    scores = score_settings([run], cost_ns, 16)
    assert set(scores) == set(settings_up_to(16))
    for setting, score in scores.items():
        expected = slow_score(run, setting, cost_ns)
        assert score.num_tokens == expected.num_tokens
        assert score.ns == pytest.approx(expected.ns)


def rate(score: Score) -> float:
    return score.num_tokens / score.ns


def test_chances_that_tell_mistakes_gain_by_a_threshold_and_empty_ones_do_not() -> None:
    sharp = score_settings([random_track(1)], cost(100, 30), 16)
    best = max(sharp, key=lambda setting: rate(sharp[setting]))
    assert best.stop_threshold > 0.0
    plain = max(rate(score) for setting, score in sharp.items() if not setting.stop_threshold)
    assert rate(sharp[best]) > 1.1 * plain
    flat = score_settings([track("1101" * 48, [0.9] * 192)], cost(100, 30), 16)
    plain = max(rate(score) for setting, score in flat.items() if not setting.stop_threshold)
    assert max(map(rate, flat.values())) == plain


def test_no_setting_drafts_longer_than_allowed() -> None:
    assert max(each.draft_len for each in settings_up_to(5)) == 5
    assert {each.draft_len for each in settings_up_to(1)} == {1}
    assert len(set(settings_up_to(3))) == len(settings_up_to(3))


def test_tapes_are_not_changed_and_give_the_same_again() -> None:
    runs = [random_track(3, 100), random_track(4, 92)]
    matches = [list(run.matches) for run in runs]
    first = score_settings(runs, cost(100, 30), 12)
    assert score_settings(runs, cost(100, 30), 12) == first
    assert [list(run.matches) for run in runs] == matches
