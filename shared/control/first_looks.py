"""Looks at sessions that have shown nothing yet: what one found holds for others alike. Pure.

    look, plain | alike | alike | ... | look, plain | alike ...

Of a new session only its prior is known. Where session after session hardly drafted, and that
prior promised nothing to one, it promises nothing to the next that begins with one like it: on a
small model a look at each took half as long as a step. What steps cost changes, so it is soon asked
again.
"""

from dataclasses import replace

from shared.control.evidence.prior import Prior
from shared.control.steps import SessionLoad

# Sessions for which a look at one holds, that one included.
NUM_ALIKE = 8


class FirstLooks:
    """The last look at a new session that decoded alone, as long as it holds."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._load: SessionLoad | None = None
        self._prior: Prior | None = None
        self._num_left = 0

    def note(self, load: SessionLoad, prior: Prior, *, is_plain: bool) -> None:
        """Take what a look at a new session found: that it pays to decode plainly, or not."""
        self._load, self._prior = replace(load, key=""), prior
        self._num_left = NUM_ALIKE - 1 if is_plain else 0

    def are_plain(self, load: SessionLoad, prior: Prior | None) -> bool:
        """Say whether a session is known to begin plainly, without another look.

        prior: what is believed of it; None of one that has shown something.
        """
        if not self._num_left or prior is None or self._prior is None:
            return False
        if replace(load, key="") != self._load or not prior.is_like(self._prior):
            return False
        self._num_left -= 1
        return True
