"""The share of time that a search may take, kept by measured times. Pure; ns come in.

step   step   step   ...   step   earn a share of each, until all looks of a trial are saved for
look   look   look                one a step, so that no step waits for more than one of them
"""

# Looks from which what the next one takes is expected.
COST_RATE = 0.25


class SearchBudget:
    """One cell's. `share` of the time of its steps may be spent; 0: nothing is."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.spent_ns = 0
        self.steps_ns = 0
        self._saved_ns = 0.0
        self._row_ns = 0.0

    def earn(self, step_ns: int) -> None:
        """Take a step that the cell's sessions had."""
        self.steps_ns += step_ns
        self._saved_ns += self.share * step_ns

    @property
    def is_measured(self) -> bool:
        """Whether a look was ever measured."""
        return self._row_ns > 0.0

    def expected_ns(self, num_rows: int, guess_ns: float | None) -> float | None:
        """Return what a look at so many rows will take; the guess before any was measured."""
        return self._row_ns * num_rows if self._row_ns else guess_ns

    def can_pay(self, ns: float | None) -> bool:
        """Say whether so much is saved; None, a time that nobody knows, is not paid."""
        return ns is not None and 0.0 < ns <= self._saved_ns

    def pay(self, num_rows: int, expected_ns: float, ns: int) -> None:
        """Take what a look took; what was saved beyond the expected time lapses.

        Args:
            num_rows: of the look.
            expected_ns: of this look and those that are to follow at once.
            ns: what it took.
        """
        self.spent_ns += ns
        self._saved_ns = min(self._saved_ns, expected_ns) - ns
        row_ns = ns / num_rows
        self._row_ns += COST_RATE * (row_ns - self._row_ns) if self._row_ns else row_ns
