"""The search of one stream: challengers and the set in use, always on the same windows. Pure.

    window 1   incumbent .78   a .75   b .84   c .69      b may be better
    window 2   incumbent .81   b .88                      it is: b is in use now

A score from one window is never compared with one from another, so a lucky window blocks nobody. A
search ends LOCKED, with a set that is good enough or when nothing better turns up, and opens again
when acceptance has fallen for long: the stream's text has changed. It ends OFF where nothing turns
up with which drafts would pay, and opens again ever more seldom.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shared.control.skip_search.candidates import CandidateSource
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import Observation, Phase, StreamRecord
from shared.speculation.skip_set import SkipSet

# Acceptance so far below what it was at the lock, for so many rounds in a row, opens the search.
MAX_DROP = 0.10
DROP_ROUNDS = 32
# What averages of shares may be off by in float arithmetic.
ROUNDING = 1e-9
# Candidates after which slow drafts are given up: some win two windows by chance, and to be better
# than the start set is not enough.
HOPELESS_EVALUATIONS = 100
# Plain rounds of a stream before that is looked at anew; twice as many every time it is in vain.
OFF_ROUNDS = 8192
MAX_OFF_ROUNDS = 128 * OFF_ROUNDS


@dataclass(frozen=True, slots=True)
class Trial:
    """Sets to be scored on one window, the set in use first.

    first_score: what a challenger that won its first window had there; this is its second.
    """

    incumbent: SkipSet
    challengers: tuple[SkipSet, ...]
    first_score: float | None = None

    @property
    def sets(self) -> tuple[SkipSet, ...]:
        """All of them."""
        return (self.incumbent, *self.challengers)


class SetSearch:
    """Moves one stream's record; asked for trials and told of their scores."""

    def __init__(self, options: SearchOptions, source: CandidateSource) -> None:
        self._options = options
        self._source = source
        # The challenger that won its first window, and its score there.
        self._winner: tuple[SkipSet, float] | None = None

    def next_trial(self, record: StreamRecord, neighbours: Iterable[SkipSet]) -> Trial | None:
        """Return what is to be scored on the next window.

        None where nothing is to be found, or a candidate is still in the making.
        """
        if record.phase is not Phase.SEARCH or not self._options.num_skipped:
            return None
        if self._winner is not None:
            challenger, score = self._winner
            return Trial(record.skip_set, (challenger,), score)
        challengers = self._source.take(record, neighbours)
        return None if challengers is None else Trial(record.skip_set, challengers)

    def note_trial(
        self, record: StreamRecord, trial: Trial, scores: Mapping[SkipSet, float]
    ) -> None:
        """Take the scores of a trial's sets, shares in [0, 1], all on one window."""
        if trial.incumbent != record.skip_set or record.phase is not Phase.SEARCH:
            return
        own = scores[trial.incumbent]
        record.num_windows += 1
        record.note_score(own)
        for each in trial.challengers:
            record.observe(Observation(each, scores[each] - own, record.num_windows))
        record.num_evaluations += len(trial.challengers)
        record.num_evaluations_ever += len(trial.challengers)
        best = max(trial.challengers, key=lambda each: scores[each], default=None)
        is_better = best is not None and scores[best] > own
        # Where a model has no other sets, looking for them comes to its end, too.
        num_misses = max(1, len(trial.challengers)) - is_better
        if best is None or not is_better:
            self._winner = None
        elif trial.first_score is None:
            self._winner = (best, scores[best])
        else:
            self._winner = None
            _adopt(record, best, [trial.first_score, scores[best]])
            num_misses = 0
        record.num_misses += num_misses
        self._lock_if_done(record)

    def _lock_if_done(self, record: StreamRecord) -> None:
        options, mean_score = self._options, record.mean_score
        is_good = mean_score is not None and mean_score > options.max_score
        is_tired = record.num_misses > options.max_misses
        if is_good or is_tired or record.num_evaluations >= options.max_evaluations:
            self._winner = None
            record.phase, record.num_given_up = Phase.LOCKED, 0
            record.keep_in_library()
            record.acceptance_at_lock, record.num_low_rounds = record.acceptance, 0

    def note_round(self, record: StreamRecord, num_drafted: int, num_accepted: int) -> None:
        """Take a round drafted by the set in use; re-open where acceptance has fallen for long."""
        record.note_acceptance(num_drafted, num_accepted)
        if record.phase is not Phase.LOCKED:
            return
        now, then = record.acceptance, record.acceptance_at_lock
        if then is None:
            # Locked before any round: what comes first is what others are compared with.
            record.acceptance_at_lock = now
        elif now is not None and then - now > MAX_DROP + ROUNDING:
            record.num_low_rounds += 1
            if record.num_low_rounds >= DROP_ROUNDS:
                self.reopen(record)
        else:
            record.num_low_rounds = 0

    def reopen(self, record: StreamRecord) -> None:
        """Search anew: what was observed was observed of another text."""
        self._winner = None
        record.phase = Phase.SEARCH
        record.num_evaluations = record.num_misses = record.num_low_rounds = 0
        record.observations, record.scores = [], []

    def give_up_if_slow(self, record: StreamRecord, predicted_speedup: float | None) -> None:
        """Turn a stream off for which no set is found with which drafts would pay.

        Where it opens again it goes on with the set in use.
        """
        is_hopeless = record.num_evaluations >= HOPELESS_EVALUATIONS
        is_slow = predicted_speedup is not None and predicted_speedup < 1.0
        if record.phase is Phase.SEARCH and is_hopeless and is_slow:
            record.phase, record.num_low_rounds = Phase.OFF, 0
            record.num_given_up += 1

    def note_plain_round(self, record: StreamRecord) -> None:
        """Take a round of a stream that is off; after many of them its drafts are tried again."""
        if record.phase is Phase.OFF:
            record.num_low_rounds += 1
            if record.num_low_rounds >= _off_rounds(record):
                self.reopen(record)


def _off_rounds(record: StreamRecord) -> int:
    """Return how long a stream that is off stays so."""
    num_before = max(0, record.num_given_up - 1)
    return min(MAX_OFF_ROUNDS, OFF_ROUNDS << min(num_before, 32))


def _adopt(record: StreamRecord, skip_set: SkipSet, scores: list[float]) -> None:
    """Put a set to use that won two windows."""
    record.skip_set, record.scores = skip_set, scores
    record.version += 1
    record.num_misses = 0
