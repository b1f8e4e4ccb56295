"""What telemetry costs: figures from turns, and bad input."""

import pytest

from shortstack.bench.telemetry import environ_of
from shortstack.bench.telemetry_stacks import ALL, DEFAULT, OFF
from shortstack.bench.telemetry_turns import (
    BlockCpu,
    CpuTime,
    Measured,
    Turn,
    figures_of,
    process_table,
    table,
)
from shortstack.errors import UsageError


def block_of(block: int, num_clients: int, mode: str, off_s: float, on_s: float) -> list[Turn]:
    """Return a block of turns of 100 tokens each; the second of each stack's is a third slower."""
    return [
        Turn(member, num_clients, block, mode, 100, elapsed_s * slower)
        for member, elapsed_s in ((OFF, off_s), (mode, on_s))
        for slower in (1.0, 1.5)
    ]


def cpu_of(num_clients: int, **seconds: float) -> list[CpuTime]:
    """Return the CPU time of one process of each stack, for 1000 tokens."""
    return [CpuTime(mode, num_clients, "gateway", s, 1000) for mode, s in seconds.items()]


def cpu_block(block: int, num_clients: int, on_s: float, mode: str = DEFAULT) -> BlockCpu:
    """Return the CPU time of a block of 200 tokens of each stack, a second of it without."""
    return BlockCpu(num_clients, block, mode, 1.0, on_s, 200, 200)


def test_costs_compare_the_turns_of_one_block() -> None:
    # The machine was half as fast in the second block: of no concern to the costs.
    turns = [
        *block_of(0, 4, DEFAULT, 1.0, 1.005),
        *block_of(1, 4, DEFAULT, 2.0, 2.01),
        *block_of(0, 4, ALL, 1.0, 1.25),
    ]
    blocks = [cpu_block(0, 4, 1.005), cpu_block(1, 4, 1.015), cpu_block(0, 4, 1.3, ALL)]
    measured = Measured(turns, cpu_of(4, off=1.0, default=1.1, all=2.0), blocks)
    (load,) = figures_of(measured)
    assert load["num_clients"] == 4
    assert load[DEFAULT]["cost"]["median"] == pytest.approx(1 - 1 / 1.005)
    assert load[DEFAULT]["finding"] == "met"
    assert load[ALL]["cost"]["median"] == pytest.approx(0.2)
    assert load[DEFAULT]["cpu_cost"]["median"] == pytest.approx(0.01)
    assert load[ALL]["cpu_cost"]["median"] == pytest.approx(0.3)
    assert "finding" not in load[ALL] and "cost" not in load[OFF]
    assert load[DEFAULT]["cpu_us_per_token"] == pytest.approx({"gateway": 1100, "all": 1100})


@pytest.mark.parametrize(
    ("on_s", "finding"),
    [
        ([1.0, 1.0, 1.0, 1.0], "met"),
        ([1.03, 1.03, 1.03, 1.03], "MISSED"),
        ([0.9, 1.1, 0.95, 1.05], "not resolved"),
    ],
)
def test_what_scatters_more_than_the_target_is_not_resolved(
    on_s: list[float], finding: str
) -> None:
    blocks = [block_of(block, 1, DEFAULT, 1.0, each) for block, each in enumerate(on_s)]
    turns = [turn for block in blocks for turn in block]
    cpu_blocks = [cpu_block(block, 1, each) for block, each in enumerate(on_s)]
    (load,) = figures_of(Measured(turns, cpu_of(1, off=1.0, default=1.0), cpu_blocks))
    assert (load[DEFAULT]["finding"], load[DEFAULT]["cpu_finding"]) == (finding, finding)


def test_a_burst_in_one_block_counts_in_cpu_time() -> None:
    turns = [turn for block in range(4) for turn in block_of(block, 1, DEFAULT, 1.0, 1.0)]
    blocks = [cpu_block(block, 1, 1.4 if block == 2 else 1.0) for block in range(4)]
    (load,) = figures_of(Measured(turns, cpu_of(1, off=4.0, default=4.4), blocks))
    assert load[DEFAULT]["cpu_cost"]["median"] == pytest.approx(0.1)


def test_the_tables_have_a_row_per_load_and_stack_or_process() -> None:
    turns = [turn for num in (4, 1) for turn in block_of(0, num, DEFAULT, 1.0, 1.0)]
    cpu_times = [*cpu_of(1, off=2.0, default=2.1), *cpu_of(4, off=1.0, default=1.0)]
    blocks = [cpu_block(0, num, 1.05) for num in (4, 1)]
    figures = figures_of(Measured(turns, cpu_times, blocks))
    assert [line.split("|")[1:3] for line in table(figures).splitlines()[2:]] == [
        [" 1 ", " off "],
        [" 1 ", " default "],
        [" 4 ", " off "],
        [" 4 ", " default "],
    ]
    assert "| 2100 | +5.0% (+5.0% to +5.0%) | MISSED |" in table(figures)
    assert process_table(figures).splitlines()[2:] == [
        "| 1 | gateway | 2000 | 2100 |",
        "| 1 | all | 2000 | 2100 |",
        "| 4 | gateway | 1000 | 1000 |",
        "| 4 | all | 1000 | 1000 |",
    ]


def test_more_variables_are_pairs() -> None:
    assert environ_of(["A=1", "B=x=y"]) == {"A": "1", "B": "x=y"}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        environ_of(["A"])


def test_a_block_is_what_both_pairs_of_stacks_did() -> None:
    # Whichever stack is started first is slower, and takes more CPU time.
    turns = [*block_of(0, 1, DEFAULT, 1.05, 1.0), *block_of(0, 1, DEFAULT, 1.0, 1.05)]
    cpu_times = cpu_of(1, off=1.2, default=1.0) + cpu_of(1, off=1.0, default=1.2)
    blocks = [cpu_block(0, 1, 0.9), cpu_block(0, 1, 1.1)]
    (load,) = figures_of(Measured(turns, cpu_times, blocks))
    assert load[DEFAULT]["cost"]["median"] == pytest.approx(0.0)
    assert load[DEFAULT]["cpu_cost"]["median"] == pytest.approx(0.0)
    assert load[DEFAULT]["cpu_us_per_token"] == pytest.approx({"gateway": 1100, "all": 1100})
    assert load[OFF]["cpu_us_per_token"] == pytest.approx({"gateway": 1100, "all": 1100})
