"""What the bench commands share of their command line: numbers by comma, JSON as published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from shortstack.errors import UsageError

ValueT = TypeVar("ValueT", int, float)


def parse_numbers(option: str, text: str, number: Callable[[str], ValueT]) -> tuple[ValueT, ...]:
    """Read numbers by comma.

    Raises:
        UsageError: one of them is none.
    """
    try:
        return tuple(number(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def publish(values: dict[str, Any], as_json: bool, out: Path | None) -> None:
    """Print JSON and write it, where wished."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(values))
