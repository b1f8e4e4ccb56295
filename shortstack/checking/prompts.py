"""The file of prompts: JSON lines, each `{"prompt": TEXT}` or `{"token_ids": [ID, …]}`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortstack.errors import UsageError


@dataclass(frozen=True, slots=True)
class PromptLine:
    """One prompt of a file: text, or ids used as they stand."""

    line_number: int
    text: str | None = None
    token_ids: tuple[int, ...] = ()

    @property
    def prompt(self) -> str | tuple[int, ...]:
        """What is sent."""
        return self.token_ids if self.text is None else self.text


def read_prompts(path: Path) -> list[PromptLine]:
    """Read a file of prompts; blank lines are skipped.

    Raises:
        UsageError: the file cannot be read, holds no prompt, or a line is none; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: byte {error.start}") from None
    prompts = [
        _parse(line, number, path) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not prompts:
        raise UsageError(f"{path} holds no prompt")
    return prompts


def _parse(line: str, number: int, path: Path) -> PromptLine:
    place = f"{path}, line {number}"
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{place}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{place}: must be an object with `prompt` or `token_ids`")
    if ("prompt" in value) == ("token_ids" in value):
        raise UsageError(f"{place}: must have exactly one of `prompt` and `token_ids`")
    if "prompt" in value:
        return PromptLine(number, text=_text(value["prompt"], place))
    return PromptLine(number, token_ids=_ids(value["token_ids"], place))


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{place}: `prompt` must be a text that is not empty")
    return value


def _ids(value: Any, place: str) -> tuple[int, ...]:
    # bool is an int to Python, not to us.
    if not isinstance(value, list) or not value or any(type(item) is not int for item in value):
        raise UsageError(f"{place}: `token_ids` must be a list of integers that is not empty")
    if any(item < 0 for item in value):
        raise UsageError(f"{place}: `token_ids` must not be negative")
    return tuple(value)
