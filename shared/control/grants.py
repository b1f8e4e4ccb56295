"""From a plan to decisions, each with the reason for it. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from shared.control.step_plan import StepPlan
from shared.control.steps import SessionLoad
from shared.control.threshold_replay import Setting
from shared.speculation.arm import at_arm
from shared.speculation.vocabulary import PLAIN_DECISION, Decision

SHED = replace(PLAIN_DECISION, reason="shed")
GUARDED = replace(PLAIN_DECISION, reason="guard")
PROBED_PLAIN = replace(PLAIN_DECISION, reason="probe")


def all_plain(loads: Sequence[SessionLoad], reason: str) -> list[Decision]:
    """Return plain decisions, but for sessions that are pinned or wish nothing else."""
    plain = replace(PLAIN_DECISION, reason=reason)
    return [plain if load.is_free else load.wished for load in loads]


def only_one_drafts(loads: Sequence[SessionLoad], first: SessionLoad) -> list[Decision]:
    """Let one session draft as it wishes: what that takes is not known at all."""
    decisions = all_plain(loads, "no_costs")
    decisions[loads.index(first)] = replace(first.wished, reason="probe")
    return decisions


def granted(
    loads: Sequence[SessionLoad], now: StepPlan, planned: StepPlan, blocked: Collection[str] = ()
) -> list[Decision]:
    """Return the decisions of a plan; those that differ from the one in force are probes.

    Args:
        loads: the sessions, with their wishes of now.
        now: what this step does; planned: the plan in force.
        blocked: keys of sessions that go without because of their guard.
    """
    decisions = []
    for load, draft_len, planned_len in zip(loads, now.lens, planned.lens, strict=True):
        wished = load.wished
        longest = wished.max_draft_len
        if not load.is_free:
            decisions.append(wished)
            continue
        # A guard holds from the next step on, whatever was planned before.
        if load.key in blocked:
            decisions.append(GUARDED)
            continue
        draft_len, planned_len = min(draft_len, longest), min(planned_len, longest)
        if draft_len == 0:
            decisions.append(PROBED_PLAIN if planned_len else SHED)
            continue
        if now.arm in load.arms:
            wished = at_arm(wished, now.arm)
        is_probe = draft_len != planned_len or now.arm != planned.arm
        if is_probe:
            decisions.append(_with_len(wished, draft_len, "probe"))
        elif now.tree is not None:
            tree = now.tree.branches.budget(draft_len)
            decisions.append(replace(_with_len(wished, draft_len, wished.reason), tree=tree))
        elif draft_len < longest:
            # A length that is free to choose is chosen, not cut.
            reason = wished.reason if load.arms else "shorter"
            decisions.append(_with_len(wished, draft_len, reason))
        else:
            decisions.append(wished)
    return decisions


def tuned(load: SessionLoad, planned: Decision, plan: StepPlan, setting: Setting) -> Decision:
    """Return a planned decision with the setting that serves its session's text best.

    A draft that branches does so at its new length, if need be a shorter one.
    """
    # Less may be left to draft than when the setting was found, and branches need room.
    longest = min(setting.draft_len, load.wished.max_draft_len)
    tree = None
    if plan.tree is not None and plan.tree.branches.num_nodes < load.max_nodes:
        branches = plan.tree.branches
        longest = min(longest, load.max_nodes - branches.num_nodes)
        tree = branches.budget(longest)
    return replace(
        planned,
        max_draft_len=longest,
        stop_threshold=setting.stop_threshold,
        reason="tuned",
        tree=tree,
    )


def _with_len(wished: Decision, draft_len: int, reason: str) -> Decision:
    """Return a wish with another length; `replace` would take twice as long, per session."""
    return Decision(
        wished.method,
        wished.exit_layer,
        draft_len,
        wished.stop_threshold,
        reason,
        by_chance=wished.by_chance,
    )
