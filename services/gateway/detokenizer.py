"""Detokenizer: ids to text, piece by piece. Knows nothing of stop strings, rounds or requests.

The pieces of a completion, joined, equal the whole decode byte for byte: the text that prompt and
completion decode to together, less the characters that the prompt alone decodes to. Decoding the
completion alone would lose the leading space of sentencepiece-style tokenizers.

Only a window of ids is decoded each time, so that a round costs the same however long the text is:

    ids     [ ... | context | new ids ]
    text          [ shown   | piece   | held back ]

Two things are held back until more ids have come. A character whose last bytes are missing (a
byte-level decoder shows it as U+FFFD, which another id may still change). And, where the tokenizer
falls back to bytes (`<0x0A>`), a whole run of such ids: its decoder turns all of a run into U+FFFD
when any of it is malformed, so nothing of an open run is certain.
"""

import re
from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
# The last character spans at most four ids; two more keep a leading-space rule off new text.
CONTEXT_LEN = 6
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class Decoder(Protocol):
    """What the detokenizer needs of a tokenizer."""

    special_ids: frozenset[int]
    byte_ids: frozenset[int]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special ones left out."""
        ...


def find_byte_ids(vocabulary: dict[str, int]) -> frozenset[int]:
    """Return the ids of byte-fallback tokens; empty for byte-level tokenizers."""
    return frozenset(id_ for token, id_ in vocabulary.items() if _BYTE_TOKEN.fullmatch(token))


class Detokenizer:
    """The text of one completion as its ids come in."""

    def __init__(self, decoder: Decoder, prompt_ids: Sequence[int]) -> None:
        """Take the prompt as context; it may be of any length, only its end is decoded."""
        self._decoder = decoder
        self._open_run: list[int] = []
        self._window = self._end_of(prompt_ids)
        text = decoder.decode(self._window)
        if self._window and self._window[-1] in decoder.byte_ids:
            # Bytes that the prompt left incomplete count as the completion's, none is lost.
            text = text.rstrip(REPLACEMENT)
        self._num_shown = len(text)

    def push(self, ids: Sequence[int]) -> str:
        """Take new ids; return the text that is certain now, often all of theirs."""
        special_ids, byte_ids = self._decoder.special_ids, self._decoder.byte_ids
        ids = [*self._open_run, *(id_ for id_ in ids if id_ not in special_ids)]
        end = len(ids)
        if byte_ids:
            while end and ids[end - 1] in byte_ids:
                end -= 1
        self._open_run = ids[end:]
        return self._advance(ids[:end]) if end else ""

    def peek(self) -> str:
        """Return the held-back text as it would stand if no id followed; empty while malformed."""
        if not self._open_run:
            return ""
        text = self._decoder.decode(self._window + self._open_run)[self._num_shown :]
        return "" if text.endswith(REPLACEMENT) else text

    def flush(self) -> str:
        """Return what was held back; no id follows."""
        text = self._decoder.decode(self._window + self._open_run)[self._num_shown :]
        self._window, self._open_run, self._num_shown = [], [], 0
        return text

    def _advance(self, ids: list[int]) -> str:
        window = self._window + ids
        text = self._decoder.decode(window)
        end = len(text) - 1 if text.endswith(REPLACEMENT) else len(text)
        piece = text[self._num_shown : end]
        self._window, self._num_shown = window, max(self._num_shown, end)
        context = window[-CONTEXT_LEN:]
        context_text = self._decoder.decode(context)
        if context_text:
            num_held = len(text) - self._num_shown
            self._window, self._num_shown = context, len(context_text) - num_held
        return piece

    def _end_of(self, prompt_ids: Sequence[int]) -> list[int]:
        """Return the last ids of the prompt that decode like all of it, from the next id on."""
        ids = [id_ for id_ in prompt_ids if id_ not in self._decoder.special_ids]
        start = max(0, len(ids) - CONTEXT_LEN)
        while start and (ids[start] in self._decoder.byte_ids or not self._has_text(ids[start:])):
            start -= 1
        return ids[start:]

    def _has_text(self, ids: list[int]) -> bool:
        return bool(self._decoder.decode(ids))
