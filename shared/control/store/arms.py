"""What an operator orders for all cells of one `mk`: the kill switch, and arms to choose from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Arms:
    """One document of orders; without one, all is as the settings say.

    is_enabled: false is the kill switch: every session of the `mk` decodes plainly.
    exits, lengths: those that a policy may choose from; None leaves them to the cell.
    stop_thresholds: theta by exit layer, for sessions too young to find their own.
    more: margins, default arms by task and bucket, and what else the document holds, as it is.
    """

    version: int = 0
    is_enabled: bool = True
    exits: tuple[int, ...] | None = None
    lengths: tuple[int, ...] | None = None
    stop_thresholds: Mapping[int, float] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Arms":
        """Read a document.

        Raises:
            ValueError: it is no such document; says which field is wrong.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"arms are an object, not {type(values).__name__}")
        version, is_enabled = values.pop("version", 0), values.pop("enabled", True)
        if type(version) is not int:
            raise ValueError(f"version must be a whole number, not {version!r}")
        if type(is_enabled) is not bool:
            raise ValueError(f"enabled must be true or false, not {is_enabled!r}")
        return cls(
            version=version,
            is_enabled=is_enabled,
            exits=_numbers(values, "exits", least=1),
            lengths=_numbers(values, "lengths", least=0),
            stop_thresholds=_thresholds(values.pop("theta", {})),
            more=values,
        )


def _numbers(values: dict[str, Any], name: str, least: int) -> tuple[int, ...] | None:
    numbers = values.pop(name, None)
    if numbers is None:
        return None
    is_list = isinstance(numbers, list)
    if not is_list or not all(type(each) is int and each >= least for each in numbers):
        raise ValueError(f"{name} must be whole numbers from {least} on, not {numbers!r}")
    return tuple(sorted(set(numbers)))


def _thresholds(values: Any) -> dict[int, float]:
    if not isinstance(values, dict):
        raise ValueError(f"theta must be an object of exit layers, not {values!r}")
    thresholds = {}
    for layer, theta in values.items():
        is_number = type(theta) in (int, float) and 0 <= theta <= 1
        if not (layer.isdecimal() and is_number):
            raise ValueError(f"theta must hold numbers in [0, 1] by exit layer, not {values!r}")
        thresholds[int(layer)] = float(theta)
    return thresholds
