"""What the sessions of one cell showed: a start for the next ones, without any store. Pure."""

from shared.control.evidence.prior import PlaceTotals, Prior

# Where counts are halved, so that what a cell learned long ago fades and numbers stay small.
MAX_POSITIONS = 65536


class LocalPrior:
    """Of one method and sampling class."""

    def __init__(self) -> None:
        """Begin without sessions."""
        self._totals = PlaceTotals()
        self._prior: Prior | None = None

    def learn(self, totals: PlaceTotals) -> None:
        """Take counts of a session that were not taken before."""
        self._totals.add(totals)
        if self._totals.num_positions > MAX_POSITIONS:
            self._totals = self._totals.scaled(0.5)
        self._prior = None

    @property
    def prior(self) -> Prior:
        """What to believe of a session to come."""
        if self._prior is None:
            self._prior = Prior.from_totals(self._totals, None)
        return self._prior
