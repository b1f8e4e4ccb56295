"""What settings of drafts would have brought along a session's own tape. Pure.

Every setting (theta, d) plays its rounds over the same runs of known positions:

    from t   k = drafts up to and including the first whose path has a chance below theta, at most d
             a = min(matches in a row from t on, k)
             a + 1 tokens for C(E, k);   t += a + 1

The chance of a path is the product of what its drafts told. A draft that reaches the end of its run
unspoilt ends there: a shorter round, no less true. What is told behind a round's first mismatch is
off the path and unknown; that of the path stands in, which overstates k and errs to short drafts.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from shared.speculation.tape import ExitTrack

# Chances of a path below which nothing is drafted behind it; 0 never stops.
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
DRAFT_LENS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
# Where the threshold stops drafts too, few lengths do.
STOPPED_LENS = (4, 8, 12, 16)


class Setting(NamedTuple):
    """Most drafts of a round, and the chance of a path behind which none is made."""

    stop_threshold: float
    draft_len: int


class Score(NamedTuple):
    """What a setting brought: tokens, and the ns that they took."""

    num_tokens: float
    ns: float


def settings_up_to(longest: int) -> list[Setting]:
    """Return the settings that are tried; none drafts more than this, at least 1."""
    lens = sorted({min(each, longest) for each in DRAFT_LENS})
    stopped = sorted({min(each, longest) for each in STOPPED_LENS})
    return [
        *(Setting(0.0, each) for each in lens),
        *(Setting(threshold, each) for threshold in THRESHOLDS for each in stopped),
    ]


def score_settings(
    runs: Sequence[ExitTrack], cost_ns: Callable[[int], float], longest: int
) -> dict[Setting, Score]:
    """Return what every setting up to a length would have brought.

    Args:
        runs: of known positions, oldest first, as a tape ring gives them.
        cost_ns: C(E, k) of a round of k drafts, above 0; asked once for each k.
        longest: no setting drafts more.
    """
    costs = [cost_ns(k) for k in range(longest + 1)]
    scores = {}
    stops: list[Sequence[int | None]] = []
    threshold = -1.0
    for setting in settings_up_to(longest):
        if setting.stop_threshold != threshold:
            threshold = setting.stop_threshold
            stops = [run.path_lens(threshold) for run in runs]
        scores[setting] = _play(runs, stops, setting.draft_len, costs)
    return scores


def replay_accepted(runs: Iterable[ExitTrack], setting: Setting) -> list[int]:
    """Return the accepted counts of a setting's rounds, in order."""
    accepted = []
    for run in runs:
        run_lens, stops = run.run_lens, run.path_lens(setting.stop_threshold)
        t = 0
        while t < len(run_lens):
            accepted.append(min(run_lens[t], stops[t] or setting.draft_len, setting.draft_len))
            t += accepted[-1] + 1
    return accepted


def _play(
    runs: Sequence[ExitTrack],
    stops: Sequence[Sequence[int | None]],
    draft_len: int,
    costs: Sequence[float],
) -> Score:
    """Play a setting's rounds. The inner loop of it all, so written out."""
    num_tokens = 0
    total_ns = 0.0
    for run, stops_of_run in zip(runs, stops, strict=True):
        run_lens = run.run_lens
        end = len(run_lens)
        t = 0
        while t < end:
            k = stops_of_run[t]
            if k is None or k > draft_len:
                k = draft_len
            a = run_lens[t]
            if a >= k:
                a = k
            elif t + a == end:
                k = a
            total_ns += costs[k]
            t += a + 1
        num_tokens += t
    return Score(num_tokens, total_ns)
