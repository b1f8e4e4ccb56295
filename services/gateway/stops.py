"""Stop strings: where the text of a completion ends. Knows nothing of ids or rounds.

The stop string that is complete first wins, character by character; of two that end at the same
character, the longer. So the result depends neither on how the text was cut into pieces nor on how
many tokens a round brought. A suffix that may begin a stop string is held back.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopHit:
    """The text before a stop string, and the stop string."""

    text: str
    stop_string: str


class StopScanner:
    """Looks for stop strings in the text of one completion as it comes in."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        """Take the stop strings, none of them empty."""
        self._stop_strings = tuple(stop_strings)
        self._held = ""

    def push(self, piece: str, tentative: str = "") -> str | StopHit:
        """Take a piece; return the text that may be shown, or the hit that ends it.

        Args:
            piece: text to append.
            tentative: text that would follow if the completion ended here. A stop string may be
                complete with it; if none is, it is forgotten, as it will be pushed later.
        """
        if not piece and not tentative:
            return ""
        text = self._held + piece
        if hit := self._find(text + tentative):
            self._held = ""
            return hit
        num_held = self._len_of_possible_start(text)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def flush(self) -> str:
        """Return what was held back; no text follows."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> StopHit | None:
        hits = [
            (start + len(stop), start, stop)
            for stop in self._stop_strings
            if (start := text.find(stop)) >= 0
        ]
        if not hits:
            return None
        _, start, stop = min(hits)
        return StopHit(text[:start], stop)

    def _len_of_possible_start(self, text: str) -> int:
        return max((_overlap(text, stop) for stop in self._stop_strings), default=0)


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that begins `stop` without being it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
