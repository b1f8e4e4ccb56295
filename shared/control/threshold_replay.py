"""Which stop threshold would have served an exit best on a session's own tape. Pure.

Every arm (theta, d) plays its rounds over the same runs of known positions:

    from t   k = drafts up to and including the first confidence < theta, at most d
             a = min(matches in a row from t on, k)
             a + 1 tokens for C(E, k);   t += a + 1                rate = tokens / cost

Matches in a row and the place of the stop follow backwards, from t + 1; rounds are then played
from the first position of each run. A draft that reaches the end of its run unspoilt ends there: a
shorter round, no less true. Confidences behind a round's first mismatch are off the path and
unknown; those of the path stand in, which overstates k and errs to short drafts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from shared.speculation.tape import ExitTrack

MIN_POSITIONS = 40
THRESHOLDS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
DRAFT_LENS = (1, 2, 4, 8)
MIN_GAIN = 1.02
MAX_GAIN = 1.5
# Drafts from a place whose confidences never stop them: longer than any arm's.
ENDLESS = 1 << 30


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The arm of one exit that delivered most on the tape, or the plain d where none is better.

    gain: its rate over that of (0, d), in [1, 1.5].
    made: P(at least j drafts are made); kept: P(the first j are made and kept), both for
        j = 1 .. draft_len, over the rounds that it played.
    """

    stop_threshold: float
    draft_len: int
    gain: float
    made: tuple[float, ...]
    kept: tuple[float, ...]


class _Places(NamedTuple):
    """A run under one threshold, place by place: matches in a row, and where drafting stops."""

    run_lens: Sequence[int]
    stops: Sequence[int]


class _Start(NamedTuple):
    """Where a round began: places left in its run, matches in a row, the draft that stops it."""

    num_left: int
    run_len: int
    stop: int


def best_threshold(
    runs: Sequence[ExitTrack], cost_ns: Callable[[int], float], draft_len: int
) -> ThresholdChoice | None:
    """Return the best threshold and draft length of one exit by replay.

    Args:
        runs: of known positions, oldest first, as a tape ring gives them: a round needs a few.
        cost_ns: C(E, k) of a round of k drafts, above 0; asked once for each k from 0 to the
            longest arm's.
        draft_len: d without a threshold, to which the gain relates; 0 relates it to plain steps.

    Returns:
        The arm of the highest rate; (0, draft_len) with gain 1 where none gains 2 %; on a tie the
        lower threshold, then the shorter draft. None where the runs hold fewer than 40 positions.
    """
    if sum(len(run.matches) for run in runs) < MIN_POSITIONS:
        return None
    costs = [cost_ns(k) for k in range(max(draft_len, *DRAFT_LENS) + 1)]
    unstopped = _places(runs, 0.0)
    own_rate = _rate(unstopped, draft_len, costs)
    best_rate, best_threshold, best_len, best_places = own_rate, 0.0, draft_len, unstopped
    last: list[_Places] = []
    for threshold in THRESHOLDS:
        places = _places(runs, threshold)
        # A threshold that stops nothing more than the one before plays the same rounds.
        if places == last:
            continue
        last = places
        for arm_len in DRAFT_LENS:
            # Nothing stops a draft of one.
            if threshold > 0.0 and arm_len == 1:
                continue
            rate = _rate(places, arm_len, costs)
            if rate > best_rate:
                best_rate, best_threshold, best_len = rate, threshold, arm_len
                best_places = places
    gain = min(MAX_GAIN, best_rate / own_rate)
    if gain < MIN_GAIN:
        gain, best_threshold, best_len, best_places = 1.0, 0.0, draft_len, unstopped
    made, kept = _chances(_starts(best_places, best_len), best_len)
    return ThresholdChoice(best_threshold, best_len, gain, made, kept)


def replay_accepted(runs: Iterable[ExitTrack], stop_threshold: float, draft_len: int) -> list[int]:
    """Return the accepted counts of an arm's rounds, in order."""
    starts = _starts(_places(runs, stop_threshold), draft_len)
    return [min(each.run_len, each.stop, draft_len) for each in starts]


def _places(runs: Iterable[ExitTrack], threshold: float) -> list[_Places]:
    """Look from every place of every run: matches in a row, and the draft that stops the round."""
    return [_Places(run.run_lens, _stops(run, threshold)) for run in runs]


def _stops(run: ExitTrack, threshold: float) -> list[int]:
    """Return, by place, how many drafts are made from there on if nothing else ends them."""
    stops = []
    stop = ENDLESS
    for confidence in reversed(run.confidences):
        stop = 1 if confidence < threshold else stop + 1
        stops.append(stop)
    stops.reverse()
    return stops


def _rate(places: Iterable[_Places], draft_len: int, costs: Sequence[float]) -> float:
    """Return tokens per ns of an arm. The inner loop of it all, so written out."""
    num_tokens = 0
    total_ns = 0.0
    for run_lens, stops in places:
        end = len(run_lens)
        t = 0
        while t < end:
            k = stops[t]
            if k > draft_len:
                k = draft_len
            a = run_lens[t]
            if a >= k:
                a = k
            elif t + a == end:
                k = a
            total_ns += costs[k]
            t += a + 1
        num_tokens += t
    return num_tokens / total_ns


def _starts(places: Iterable[_Places], draft_len: int) -> list[_Start]:
    """Return the rounds of an arm by where they begin."""
    starts = []
    for run_lens, stops in places:
        end = len(run_lens)
        t = 0
        while t < end:
            starts.append(_Start(end - t, run_lens[t], stops[t]))
            t += min(run_lens[t], stops[t], draft_len) + 1
    return starts


def _chances(
    starts: Sequence[_Start], draft_len: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return P(at least j made) and P(first j made and kept) for j = 1 .. draft_len.

    Place by place, of the rounds of which it is known, so that those which the end of a run cut
    off weigh neither for nor against.
    """

    def count(values: Iterable[int]) -> list[int]:
        """Return how many values are at least j, for j = 0 .. draft_len."""
        tallies = [0] * (draft_len + 1)
        for value in values:
            tallies[min(value, draft_len)] += 1
        return list(accumulate(reversed(tallies)))[::-1]

    drafted = count(min(stop, left) for left, _, stop in starts)
    went_on = count(min(stop - 1, left) for left, _, stop in starts)
    intact = count(min(stop, run) for _, run, stop in starts)
    intact_went_on = count(min(stop - 1, run) for _, run, stop in starts)
    tried = count(min(stop, run + 1, left) for left, run, stop in starts)

    made, kept = [], []
    made_chance = kept_chance = kept_rate = 1.0
    for place in range(1, draft_len + 1):
        before = place - 1
        if before:
            made_chance *= _share(went_on[before], drafted[before], 1.0)
            kept_chance *= _share(intact_went_on[before], intact[before], 1.0)
        kept_rate = _share(intact[place], tried[place], kept_rate)
        kept_chance *= kept_rate
        made.append(made_chance)
        # Cut-off rounds count in the one and not in the other, which could cross them by a hair.
        kept.append(min(kept_chance, made_chance))
    return tuple(made), tuple(kept)


def _share(num_such: int, num_all: int, unknown: float) -> float:
    return num_such / num_all if num_all else unknown
