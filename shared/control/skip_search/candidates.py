"""Candidates: which sets challenge the one in use. Pure and repeatable.

    first        sets that searches ended with, of this stream and its neighbours
    every 25th   what a Gaussian process over all observations expects most of
    else         by turns a random set, and the set in use with one sub-layer swapped for another

Candidate i is a function of the stream's seed, i, the set in use and what was observed: the same
scores bring the same course, also where another process takes it up.
"""

import random
from collections.abc import Callable, Collection, Iterable, Sequence

from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import Observation, StreamRecord
from shared.speculation.skip_set import SkipSet, random_set

BAYES_EVERY = 25
# Draws of a set that was not tried lately; small models have few sets.
MAX_DRAWS = 8

# From observations and a seed to a set; None: not found yet, ask again.
Proposer = Callable[[Sequence[Observation], int], SkipSet | None]


class CandidateSource:
    """The candidates of one stream."""

    def __init__(self, options: SearchOptions, seed: int, propose: Proposer) -> None:
        self._options = options
        self._seed = seed
        self._propose = propose

    def take(
        self, record: StreamRecord, neighbours: Iterable[SkipSet]
    ) -> tuple[SkipSet, ...] | None:
        """Return the next challengers, all different and none of them in use.

        Fewer than wanted, or none, where a model has no more sets.

        Args:
            record: the stream; its count of candidates moves on.
            neighbours: sets that other streams' searches ended with.

        Returns:
            None while a proposal is in the making; nothing has moved then.
        """
        known = [each.skip_set for each in record.library]
        tried = {each.skip_set for each in record.observations}
        waiting = [each for each in dict.fromkeys((*known, *neighbours)) if each not in tried]
        found: dict[SkipSet, None] = {}
        count = record.num_candidates
        for index in range(count, count + self._options.num_challengers):
            candidate = (
                waiting.pop(0) if waiting else self._drawn(index, record, tried | set(found))
            )
            if candidate is None:
                return None
            if candidate != record.skip_set:
                found[candidate] = None
        record.num_candidates = count + self._options.num_challengers
        return tuple(found)

    def _drawn(
        self, index: int, record: StreamRecord, tried: Collection[SkipSet]
    ) -> SkipSet | None:
        options = self._options
        draw = random.Random(f"{self._seed}/{index}")
        if index % BAYES_EVERY == BAYES_EVERY - 1 and record.observations:
            return self._propose(record.observations, draw.getrandbits(32))
        candidate = record.skip_set
        for _ in range(MAX_DRAWS):
            if index % 2:
                candidate = record.skip_set.swapped(options.num_layers, draw)
            else:
                candidate = random_set(options.num_layers, options.num_skipped, draw)
            if candidate not in tried and candidate != record.skip_set:
                break
        return candidate
