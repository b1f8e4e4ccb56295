"""Times of steps as JSON, so that replays of another day or machine go by the same truth."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from shared.control.replay.step_times import StepTimes
from shortstack.errors import UsageError

PAIRS = ("draft_ns", "closing_ns", "verify_ns", "first_steps_ns")
SINGLES = ("head_ns", "chance_ns")


def times_to_json(times: StepTimes) -> dict[str, Any]:
    """Return times as JSON has them: keys `E,rows` where there are two."""
    values = {each.name: getattr(times, each.name) for each in fields(times)}
    for name in PAIRS:
        values[name] = {f"{layer},{rows}": ns for (layer, rows), ns in values[name].items()}
    for name in SINGLES:
        values[name] = {str(rows): ns for rows, ns in values[name].items()}
    return values


def times_from_json(values: dict[str, Any]) -> StepTimes:
    """Return the times.

    Raises:
        ValueError, TypeError, KeyError: these are none.
    """
    # Files of before there were chances, or first steps, have none, and one stretch of passes.
    plain_stretch = values.get("pass_stretch", 1.0)
    values = {"first_steps_ns": {}, "plain_stretch": plain_stretch} | values
    pairs = {name: {_pair(key): ns for key, ns in values[name].items()} for name in PAIRS}
    singles = {
        name: {int(rows): ns for rows, ns in values.get(name, {}).items()} for name in SINGLES
    }
    return StepTimes(**values | pairs | singles)


def _pair(key: str) -> tuple[int, int]:
    layer, _, rows = key.partition(",")
    return int(layer), int(rows)


def read_times(file: Path) -> StepTimes:
    """Read a file of times, or the `times` of a published result.

    Raises:
        UsageError: it cannot be read, or holds none.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return times_from_json(values.get("times", values))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{file} holds no times of steps: {error!r}") from None
