"""The constants of a search for skip sets, for one model."""

from dataclasses import dataclass

from shared.speculation.skip_set import SkipSet, num_to_skip, start_set


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What a search is bounded by; the defaults are the published ones where there are such.

    num_layers: L; skip_ratio: r, the share of the sub-layers open to choice that is skipped.
    window_len: W, committed tokens that sets are scored by at a time.
    max_score: mean score of the set in use beyond which nothing better is looked for.
    max_misses: candidates in a row that were not adopted; max_evaluations: candidates in all.
    num_challengers: candidates that share a window with the set in use.
    interval_rounds: rounds of a stream between two windows.
    """

    num_layers: int
    skip_ratio: float = 0.45
    window_len: int = 32
    max_score: float = 0.95
    max_misses: int = 300
    max_evaluations: int = 1000
    num_challengers: int = 3
    interval_rounds: int = 8

    @property
    def num_skipped(self) -> int:
        """K."""
        return num_to_skip(self.num_layers, self.skip_ratio)

    @property
    def start_set(self) -> SkipSet:
        """z0, what a stream without a record drafts with."""
        return start_set(self.num_layers, self.num_skipped)
