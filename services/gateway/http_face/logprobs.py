"""Log probabilities as the two endpoints write them; one entry for each emitted token."""

from typing import Any, Protocol

from services.gateway.completion import Tokens
from services.gateway.token_bytes import TokenBytes

# JSON has no infinity.
LEAST_LOGPROB = -9999.0


class LogprobsWriter(Protocol):
    """Writes the entries of one choice, round by round."""

    def write(self, tokens: Tokens) -> dict[str, Any]:
        """Return the entries of a round."""
        ...

    def join(self, rounds: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the entries of all rounds as those of one."""
        ...


class ChatLogprobs:
    """`content`: one object per token, with its bytes."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        """Take what knows the tokens."""
        self._token_bytes = token_bytes

    def write(self, tokens: Tokens) -> dict[str, Any]:
        """Return the entries of a round."""
        content = []
        for token_id, entry in zip(tokens.token_ids, tokens.logprobs, strict=True):
            written = self._one(token_id, entry.logprob)
            written["top_logprobs"] = [self._one(top.token_id, top.logprob) for top in entry.top]
            content.append(written)
        return {"content": content, "refusal": None}

    def join(self, rounds: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the entries of all rounds as those of one."""
        content = [entry for each in rounds for entry in each["content"]]
        return {"content": content, "refusal": None}

    def _one(self, token_id: int, logprob: float) -> dict[str, Any]:
        raw = self._token_bytes.of(token_id)
        return {
            "token": raw.decode("utf-8", "replace"),
            "logprob": max(logprob, LEAST_LOGPROB),
            "bytes": list(raw),
        }


class TextLogprobs:
    """Parallel lists, with where each token begins in the text."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        """Start at the beginning of the text."""
        self._token_bytes = token_bytes
        self._num_chars = 0

    def write(self, tokens: Tokens) -> dict[str, Any]:
        """Return the entries of a round."""
        entries = list(zip(tokens.token_ids, tokens.logprobs, strict=True))
        tops = []
        for token_id, entry in entries:
            top = {self._name(each.token_id): _finite(each.logprob) for each in entry.top}
            # The token itself is always among them.
            tops.append(top | {self._name(token_id): _finite(entry.logprob)})
        return {
            "tokens": [self._name(token_id) for token_id in tokens.token_ids],
            "token_logprobs": [_finite(entry.logprob) for _, entry in entries],
            "top_logprobs": tops,
            "text_offset": [self._offset(token_id) for token_id in tokens.token_ids],
        }

    def join(self, rounds: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the entries of all rounds as those of one."""
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        return {name: [entry for each in rounds for entry in each[name]] for name in names}

    def _name(self, token_id: int) -> str:
        """Return a token's text; where it is no whole character, its bytes, as OpenAI does."""
        raw = self._token_bytes.of(token_id)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def _offset(self, token_id: int) -> int:
        """Return where a token begins, and go on behind it; inside a character, at that one."""
        raw = self._token_bytes.of(token_id)
        begins_inside = bool(raw) and not _begins_character(raw[0])
        offset = max(0, self._num_chars - begins_inside)
        if token_id not in self._token_bytes.special_ids:
            self._num_chars += sum(map(_begins_character, raw))
        return offset


def _begins_character(byte: int) -> bool:
    return byte & 0xC0 != 0x80


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
