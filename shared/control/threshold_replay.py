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
from typing import NamedTuple

from shared.speculation.tape import ExitTrack

MIN_POSITIONS = 16
# Thresholds that are tried, as shares of the tape's own confidences that lie below: what a
# confidence is worth differs from text to text by more than a grid of fixed ones could follow.
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
DRAFT_LENS = (1, 2, 4, 6, 8, 10, 12)
MIN_GAIN = 1.02
MAX_GAIN = 1.5
# Drafts from a place whose confidences never stop them: longer than any arm's.
ENDLESS = 1 << 30


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The arm of one exit that delivered most on the tape, or the plain d where none is better.

    gain: its rate over that of (0, d), in [1, 1.5].
    """

    stop_threshold: float
    draft_len: int
    gain: float


class _Places(NamedTuple):
    """A run under one threshold, place by place: matches in a row, and where drafting stops."""

    run_lens: Sequence[int]
    stops: Sequence[int]


def best_threshold(
    runs: Sequence[ExitTrack],
    cost_ns: Callable[[int], float],
    draft_len: int,
    longest: int = DRAFT_LENS[-1],
) -> ThresholdChoice | None:
    """Return the best threshold and draft length of one exit by replay.

    Args:
        runs: of known positions, oldest first, as a tape ring gives them: a round needs a few.
        cost_ns: C(E, k) of a round of k drafts, above 0; asked once for each k from 0 to the
            longest arm's.
        draft_len: d without a threshold, to which the gain relates; 0 relates it to plain steps.
        longest: no arm drafts more.

    Returns:
        The arm of the highest rate; (0, draft_len) with gain 1 where none gains 2 %; on a tie the
        lower threshold, then the shorter draft. None where the runs hold fewer than 16 positions.
    """
    if sum(len(run.matches) for run in runs) < MIN_POSITIONS:
        return None
    lens = [each for each in DRAFT_LENS if each <= longest] or [longest]
    costs = [cost_ns(k) for k in range(max(draft_len, *lens) + 1)]
    unstopped = _places(runs, 0.0)
    own_rate = _rate(unstopped, draft_len, costs)
    best_rate, best = own_rate, (0.0, draft_len)
    last: list[_Places] = []
    for threshold in (0.0, *_thresholds(runs)):
        places = _places(runs, threshold) if threshold else unstopped
        # A threshold that stops nothing more than the one before plays the same rounds.
        if places == last:
            continue
        last = places
        for arm_len in lens:
            # A threshold shortens drafts: what was too short without one is so with it.
            if threshold and arm_len < best[1]:
                continue
            rate = _rate(places, arm_len, costs)
            if rate > best_rate:
                best_rate, best = rate, (threshold, arm_len)
    gain = min(MAX_GAIN, best_rate / own_rate)
    return (
        ThresholdChoice(*best, gain) if gain >= MIN_GAIN else ThresholdChoice(0.0, draft_len, 1.0)
    )


def _thresholds(runs: Iterable[ExitTrack]) -> list[float]:
    """Return the confidences below which lie these shares of all, ascending."""
    ordered = sorted(confidence for run in runs for confidence in run.confidences)
    return sorted({ordered[int(share * len(ordered))] for share in SHARES} - {0.0})


def replay_accepted(runs: Iterable[ExitTrack], stop_threshold: float, draft_len: int) -> list[int]:
    """Return the accepted counts of an arm's rounds, in order."""
    accepted = []
    for run_lens, stops in _places(runs, stop_threshold):
        t = 0
        while t < len(run_lens):
            accepted.append(min(run_lens[t], stops[t], draft_len))
            t += accepted[-1] + 1
    return accepted


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
