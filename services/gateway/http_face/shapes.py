"""Choices as the two endpoints write them: whole, and piece by piece in a stream.

Pieces of a stream are written by hand: a model or a dictionary for each would cost more than all
else that a round costs here.
"""

import json
from abc import ABC, abstractmethod
from typing import Any

from services.gateway.completion import Finished, Tokens
from services.gateway.http_face.logprobs import LogprobsWriter
from services.gateway.http_face.token_sources import sources_of
from shared.speculation.vocabulary import FinishReason

_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
_NO_END = ',"finish_reason":null,"stop_reason":null}'


class Choice(ABC):
    """One choice of an answer."""

    object_name: str
    chunk_name: str
    id_prefix: str

    def __init__(self, index: int, logprobs: LogprobsWriter | None) -> None:
        """Start without text; the session's id is set when a cell runs it.

        Args:
            index: of the choice.
            logprobs: what writes log probabilities, where they are asked for.
        """
        self.session_id = ""
        self._start = f'{{"index":{index},'
        self._index = index
        self._logprobs = logprobs
        self._texts: list[str] = []
        self._rounds: list[dict[str, Any]] = []

    def add(self, tokens: Tokens) -> None:
        """Keep a round, for an answer that is sent whole."""
        self._texts.append(tokens.text)
        if self._logprobs is not None:
            self._rounds.append(self._logprobs.write(tokens))

    def round(self, tokens: Tokens) -> str:
        """Write a round as a piece of a stream."""
        logprobs = "null" if self._logprobs is None else _json(self._logprobs.write(tokens))
        sources = ""
        if tokens.token_texts:
            sources = f',"speculation":{_json(sources_of(tokens, self.session_id))}'
        return f'{self.piece(tokens.text)},"logprobs":{logprobs}{sources}{_NO_END}'

    def held_back(self, text: str) -> str:
        """Write text that came without tokens as a piece of a stream."""
        return f'{self.piece(text)},"logprobs":null{_NO_END}'

    def end(self, finished: Finished) -> str:
        """Write the last piece of a stream."""
        reason, stop_reason = _end_of(finished)
        return (
            f'{self.empty()},"logprobs":null,"finish_reason":{_json(reason)},'
            f'"stop_reason":{_json(stop_reason)}}}'
        )

    def whole(self, finished: Finished) -> dict[str, Any]:
        """Return the choice with all that was kept of it."""
        text = "".join(self._texts) + finished.text
        logprobs = None if self._logprobs is None else self._logprobs.join(self._rounds)
        reason, stop_reason = _end_of(finished)
        return {
            "index": self._index,
            **self.content(text),
            "logprobs": logprobs,
            "finish_reason": reason,
            "stop_reason": stop_reason,
        }

    @abstractmethod
    def opening(self) -> str:
        """Write the first piece of a stream; empty where there is none."""

    @abstractmethod
    def piece(self, text: str) -> str:
        """Begin a piece that holds text; left open."""

    @abstractmethod
    def empty(self) -> str:
        """Begin a piece that holds nothing; left open."""

    @abstractmethod
    def content(self, text: str) -> dict[str, Any]:
        """Return the fields that hold the whole text."""


class ChatChoice(Choice):
    """A choice of /v1/chat/completions."""

    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"
    id_prefix = "chatcmpl-"

    def opening(self) -> str:
        """Write the role."""
        role = '"delta":{"role":"assistant","content":""},"logprobs":null'
        return f"{self._start}{role}{_NO_END}"

    def piece(self, text: str) -> str:
        """Begin a piece that holds text; left open."""
        return f'{self._start}"delta":{{"content":{_json(text)}}}'

    def empty(self) -> str:
        """Begin a piece that holds nothing; left open."""
        return f'{self._start}"delta":{{}}'

    def content(self, text: str) -> dict[str, Any]:
        """Return the message."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}


class TextChoice(Choice):
    """A choice of /v1/completions."""

    object_name = chunk_name = "text_completion"
    id_prefix = "cmpl-"

    def __init__(self, index: int, logprobs: LogprobsWriter | None, echo: str = "") -> None:
        """Start with the text of the prompt, where it is to be echoed."""
        super().__init__(index, logprobs)
        self._echo = echo

    def opening(self) -> str:
        """Write the prompt that is echoed."""
        return self.held_back(self._echo) if self._echo else ""

    def piece(self, text: str) -> str:
        """Begin a piece that holds text; left open."""
        return f'{self._start}"text":{_json(text)}'

    def empty(self) -> str:
        """Begin a piece that holds nothing; left open."""
        return self.piece("")

    def content(self, text: str) -> dict[str, Any]:
        """Return the text."""
        return {"text": self._echo + text}


def _end_of(finished: Finished) -> tuple[str, str | int | None]:
    """Return the reason, and the id or string that was it."""
    if finished.stop_token_id is not None:
        return _REASONS[finished.reason], finished.stop_token_id
    return _REASONS[finished.reason], finished.stop_string or None


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
