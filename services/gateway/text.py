"""The text of a completion: detokenizer and stop strings together, round by round.

When a round completes a stop string, its tokens are looked at one by one, since only those up to
the one that completes it count. Rounds that do not, nearly all, are taken in one go, unless the
text of each token is asked for.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from services.gateway.detokenizer import Decoder, Detokenizer
from services.gateway.stops import StopHit, StopScanner


@dataclass(frozen=True, slots=True)
class TextPiece:
    """What a round adds: text to show, how many of its tokens count, and what ended it, if so.

    token_texts: where asked for, the text that became certain with each token that counts; joined,
        they are the text.
    """

    text: str
    num_tokens: int
    stop_string: str = ""
    token_texts: Sequence[str] = ()


class CompletionText:
    """Turns the ids of rounds into text; ends it before the first stop string."""

    def __init__(
        self,
        decoder: Decoder,
        prompt_ids: Sequence[int],
        stop_strings: Sequence[str],
        *,
        has_token_texts: bool = False,
    ) -> None:
        """Begin behind the prompt; pieces tell the texts of their tokens if that is asked for."""
        self._detokenizer = Detokenizer(decoder, prompt_ids)
        self._byte_ids = decoder.byte_ids
        self._scanner = StopScanner(stop_strings) if stop_strings else None
        self._has_token_texts = has_token_texts

    def push(self, ids: Sequence[int]) -> TextPiece:
        """Take the ids of a round. After a piece with a stop string nothing may follow."""
        if self._has_token_texts:
            return self._push_one_by_one(self._scanner, ids)
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

    def _push_one_by_one(self, scanner: StopScanner | None, ids: Sequence[int]) -> TextPiece:
        texts: list[str] = []
        stop_string = ""
        for token_id in ids:
            text = self._detokenizer.push((token_id,))
            if scanner is not None:
                shown = scanner.push(text, self._detokenizer.peek())
                if isinstance(shown, StopHit):
                    stop_string = shown.stop_string
                    texts.append(shown.text)
                    break
                text = shown
            texts.append(text)
        told = texts if self._has_token_texts else ()
        return TextPiece("".join(texts), len(texts), stop_string, told)

    def flush(self) -> str:
        """Return what was held back; not to be called after a stop string."""
        held = self._scanner.flush() if self._scanner else ""
        return held + self._detokenizer.flush()
