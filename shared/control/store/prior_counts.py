"""Counts by kind of text: what a new session begins with, before it has shown anything.

At this border they are flat integer fields: `r:<E>:<j>` virtual rounds of exit E that reached place
j, `h:<E>:<j>` those that matched there, `pos` positions, `sessions`. What they mean is no matter
of the store.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

Counts = Mapping[str, int]
# A day weighs this much of the day after it.
DAY_WEIGHT = 0.7
NUM_DAYS = 7
# What a tenant needs on a day before it adds to the counts of all: fewer would show single ones.
MIN_TENANT_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class PriorKey:
    """Whose counts: sessions of one `mk`, tenant and task; an empty task is none."""

    mk: str
    tenant: str
    task_key: str = ""


@dataclass(frozen=True, slots=True)
class PriorCounts:
    """The last days' counts by level, each day weighted by its age; empty where there are none."""

    everyone: Counts = field(default_factory=dict)
    tenant: Counts = field(default_factory=dict)
    # Empty, too, where no task was named.
    task: Counts = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class PriorFlush:
    """Counts of one key and day on their way to Redis.

    Once tried, its counts and id stay as they are: the try may have been taken although no answer
    came, and Redis knows it by the id.
    """

    key: PriorKey
    day: int
    flush_id: str
    counts: Counter[str] = field(default_factory=Counter)
    first_tried_s: float | None = None
