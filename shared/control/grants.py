"""From planned draft lengths to decisions, each with the reason for it. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from shared.control.steps import SessionLoad
from shared.speculation.vocabulary import PLAIN_DECISION, Decision

SHED = replace(PLAIN_DECISION, reason="shed")
PROBED_PLAIN = replace(PLAIN_DECISION, reason="probe")


def all_plain(loads: Sequence[SessionLoad], reason: str) -> list[Decision]:
    """Return plain decisions, but for sessions that are pinned or wish nothing else."""
    plain = replace(PLAIN_DECISION, reason=reason)
    return [load.wished if load.is_pinned or load.wished.is_off else plain for load in loads]


def only_one_drafts(loads: Sequence[SessionLoad], first: SessionLoad) -> list[Decision]:
    """Let one session draft as it wishes: what that takes is not known at all."""
    decisions = all_plain(loads, "no_costs")
    decisions[loads.index(first)] = replace(first.wished, reason="probe")
    return decisions


def granted(
    loads: Sequence[SessionLoad], lens: Sequence[int], planned: Sequence[int]
) -> list[Decision]:
    """Return decisions with so long drafts; those that differ from the plan are probes."""
    decisions = []
    for load, draft_len, planned_len in zip(loads, lens, planned, strict=True):
        wished = load.wished
        planned_len = min(planned_len, wished.max_draft_len)
        if load.is_pinned or wished.is_off:
            decisions.append(wished)
        elif draft_len == 0:
            decisions.append(PROBED_PLAIN if planned_len else SHED)
        elif draft_len != planned_len:
            decisions.append(_with_len(wished, draft_len, "probe"))
        elif draft_len < wished.max_draft_len:
            decisions.append(_with_len(wished, draft_len, "shorter"))
        else:
            decisions.append(wished)
    return decisions


def _with_len(wished: Decision, draft_len: int, reason: str) -> Decision:
    """Return a wish with another length; `replace` would take twice as long, per session."""
    return Decision(wished.method, wished.exit_layer, draft_len, wished.stop_threshold, reason)
