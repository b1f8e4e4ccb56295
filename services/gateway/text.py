"""The text of a completion: detokenizer and stop strings together, round by round.

The tokens of a round are looked at one by one when there are stop strings, since several may arrive
at once and only those up to the one that completes a stop string count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.detokenizer import Decoder, Detokenizer
from services.gateway.stops import StopHit, StopScanner


@dataclass(frozen=True, slots=True)
class TextPiece:
    """What a round adds: text to show, how many of its tokens count, and what ended it, if so."""

    text: str
    num_tokens: int
    stop_string: str = ""


class CompletionText:
    """Turns the ids of rounds into text; ends it before the first stop string."""

    def __init__(
        self, decoder: Decoder, prompt_ids: Sequence[int], stop_strings: Sequence[str]
    ) -> None:
        """Begin behind the prompt."""
        self._detokenizer = Detokenizer(decoder, prompt_ids)
        self._scanner = StopScanner(stop_strings) if stop_strings else None

    def push(self, ids: Sequence[int]) -> TextPiece:
        """Take the ids of a round. After a piece with a stop string nothing may follow."""
        if self._scanner is None:
            return TextPiece(self._detokenizer.push(ids), len(ids))
        pieces: list[str] = []
        for index, token_id in enumerate(ids):
            piece = self._detokenizer.push((token_id,))
            shown = self._scanner.push(piece, self._detokenizer.peek())
            if isinstance(shown, StopHit):
                return TextPiece("".join(pieces) + shown.text, index + 1, shown.stop_string)
            pieces.append(shown)
        return TextPiece("".join(pieces), len(ids))

    def flush(self) -> str:
        """Return what was held back; not to be called after a stop string."""
        held = self._scanner.flush() if self._scanner else ""
        return held + self._detokenizer.flush()
