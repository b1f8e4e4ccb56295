"""When and where each fault strikes: a function of seed and name. Pure.

A drill is the same whether it runs alone or among others, so that one that failed can be repeated.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from shortstack.drill.faults import Fault

# After the load is under way: in the middle of prompts, drafts or passes, as chance has it.
DELAY_SPAN_S = (0.2, 1.5)


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault to be: which cell it hits, when, for how long; `seed` is for choices in it."""

    fault: Fault
    cell_index: int
    delay_s: float
    hold_s: float
    seed: int


def plan_strikes(
    faults: Sequence[Fault], seed: int, num_cells: int, duration_s: float
) -> tuple[Strike, ...]:
    """Plan a strike for each fault.

    duration_s: how long each fault lasts, unless it must last longer to show what it should.
    """
    return tuple(_plan(fault, seed, num_cells, duration_s) for fault in faults)


def _plan(fault: Fault, seed: int, num_cells: int, duration_s: float) -> Strike:
    source = random.Random(f"{seed} {fault.name}")
    return Strike(
        fault,
        cell_index=source.randrange(num_cells),
        delay_s=source.uniform(*DELAY_SPAN_S),
        hold_s=max(duration_s, fault.least_hold_s),
        seed=source.getrandbits(32),
    )
