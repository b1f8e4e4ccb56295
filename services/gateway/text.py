"""The text of a completion: detokenizer and stop strings together, round by round.

When a round completes a stop string, its tokens are looked at one by one, since only those up to
the one that completes it count. Rounds that do not, nearly all, are taken in one go.
"""

from collections.abc import Sequence
from copy import copy
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
        self._byte_ids = decoder.byte_ids
        self._scanner = StopScanner(stop_strings) if stop_strings else None

    def push(self, ids: Sequence[int]) -> TextPiece:
        """Take the ids of a round. After a piece with a stop string nothing may follow."""
        if self._scanner is None:
            return TextPiece(self._detokenizer.push(ids), len(ids))
        if not self._byte_ids.isdisjoint(ids):
            # Inside a run of bytes the text of a block is not made of the texts of its ids.
            return self._push_one_by_one(self._scanner, ids)
        before = copy(self._detokenizer), copy(self._scanner)
        shown = self._scanner.push(self._detokenizer.push(ids))
        if not isinstance(shown, StopHit):
            return TextPiece(shown, len(ids))
        self._detokenizer, self._scanner = before
        return self._push_one_by_one(self._scanner, ids)

    def _push_one_by_one(self, scanner: StopScanner, ids: Sequence[int]) -> TextPiece:
        pieces: list[str] = []
        for index, token_id in enumerate(ids):
            piece = self._detokenizer.push((token_id,))
            shown = scanner.push(piece, self._detokenizer.peek())
            if isinstance(shown, StopHit):
                return TextPiece("".join(pieces) + shown.text, index + 1, shown.stop_string)
            pieces.append(shown)
        return TextPiece("".join(pieces), len(ids))

    def flush(self) -> str:
        """Return what was held back; not to be called after a stop string."""
        held = self._scanner.flush() if self._scanner else ""
        return held + self._detokenizer.flush()
