"""The bytes of single tokens. Joined, they are the text; one alone may be part of a character.

A byte-level tokenizer writes bytes as characters of its own, one with byte fallback writes
`<0x0A>`, the others write text with marks for blanks. Knows nothing of requests.
"""

import json
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

CACHE_SIZE = 65_536
# What a token is decoded behind, as the first of a text may lose its blank.
_ANCHOR = "a"


class TokenBytes:
    """The bytes of the tokens of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, byte_ids: frozenset[int]) -> None:
        """Take a tokenizer and the ids of its byte-fallback tokens."""
        self._tokenizer = tokenizer
        self._byte_ids = byte_ids
        added = tokenizer.get_added_tokens_decoder()
        self._added = {id_: token.content for id_, token in added.items()}
        self.special_ids = frozenset(id_ for id_, token in added.items() if token.special)
        self._byte_of_char = _bytes_by_char() if _is_byte_level(tokenizer.decoder) else {}
        # Per object: a tokenizer lives as long as its gateway.
        self.of = lru_cache(CACHE_SIZE)(self._find)

    def _find(self, token_id: int) -> bytes:
        """Return the bytes of a token; none for an id beyond the tokenizer's."""
        if token_id in self._added:
            return self._added[token_id].encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if token_id in self._byte_ids:
            return bytes([int(token[3:5], 16)])
        if self._byte_of_char:
            return b"".join(self._byte_of_char.get(char) or char.encode() for char in token)
        decoder = self._tokenizer.decoder
        if decoder is None:
            return str(token).encode()
        return str(decoder.decode([_ANCHOR, token])).removeprefix(_ANCHOR).encode()


def _is_byte_level(decoder: Any) -> bool:
    """Whether a decoder, or a part of it, turns characters into bytes."""
    if decoder is None:
        return False
    layers = [json.loads(decoder.__getstate__())]
    while layers:
        layer = layers.pop()
        if layer["type"] == "ByteLevel":
            return True
        layers += layer.get("decoders", [])
    return False


def _bytes_by_char() -> dict[str, bytes]:
    """Return the byte that each character of a byte-level token stands for.

    Printable characters of Latin-1 stand for themselves, the other bytes for those from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    found = {chr(byte): bytes([byte]) for byte in shown}
    return found | {chr(0x100 + index): bytes([byte]) for index, byte in enumerate(hidden)}
