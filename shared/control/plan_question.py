"""What a look at plans is for. A plain value."""

from collections.abc import Sequence
from typing import NamedTuple

from shared.control.steps import SessionLoad


class PlanQuestion(NamedTuple):
    """Which sessions, and what is known of their steps beside costs and evidence.

    loads: the sessions that decode in the next step, at least one.
    overhead_ns: what a step takes beside its draft phase and its pass.
    num_tried: steps with drafts that there were with about so many sessions.
    is_tuned: whether it is one session whose drafts are tuned.
    tuned_gain: how many times as much it brings thereby as its plan says.
    """

    loads: Sequence[SessionLoad]
    overhead_ns: float
    num_tried: int
    is_tuned: bool = False
    tuned_gain: float = 1.0
