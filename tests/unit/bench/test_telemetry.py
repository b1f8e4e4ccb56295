"""What tracing costs: figures from turns, and bad input."""

import pytest

from shortstack.bench.telemetry import environ_of
from shortstack.bench.telemetry_turns import ALL, DEFAULT, OFF, Turn, figures_of, table
from shortstack.errors import UsageError


def turns_of(num_clients: int, speeds: dict[str, list[float]]) -> list[Turn]:
    """Return turns of one second each."""
    return [
        Turn(mode, num_clients, index, int(speed), 1.0)
        for mode, values in speeds.items()
        for index, speed in enumerate(values)
    ]


def test_ratios_compare_turns_that_followed_each_other() -> None:
    # The machine was half as fast in the second turn: of no concern to the ratios.
    speeds = {OFF: [200.0, 100.0, 200.0], DEFAULT: [198.0, 99.0, 200.0], ALL: [180.0, 90.0, 150.0]}
    (load,) = figures_of(turns_of(4, speeds))
    assert load["num_clients"] == 4
    assert load[OFF] == {"tokens_per_s": 200.0, "ratio_to_off": 1.0}
    assert load[DEFAULT]["ratio_to_off"] == pytest.approx(0.99)
    assert load[ALL] == {"tokens_per_s": 150.0, "ratio_to_off": pytest.approx(0.9)}


def test_the_table_has_a_line_per_load() -> None:
    speeds = {mode: [100.0] for mode in (OFF, DEFAULT, ALL)}
    lines = table(figures_of([*turns_of(4, speeds), *turns_of(1, speeds)])).splitlines()
    assert lines[2:] == [
        "| 1 | 100.0 | 100.0 (1.000) | 100.0 (1.000) |",
        "| 4 | 100.0 | 100.0 (1.000) | 100.0 (1.000) |",
    ]


def test_more_variables_are_pairs() -> None:
    assert environ_of(["A=1", "B=x=y"]) == {"A": "1", "B": "x=y"}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        environ_of(["A"])
