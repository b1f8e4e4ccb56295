"""Whether drafts pay in a step that prompts ride along in. Pure.

Prompt rows fill a pass up to where it is bound by computing, so that rows of drafts, nearly free
without them, cost what prompt rows cost, and every prompt waits for the draft phase too. What the
drafts bring could be had later, beside the sessions whose prompts are running now:

    kept * t  >=  draft phase + pass(prompt rows, with drafts) - pass(prompt rows, without)
    t = min(time per token of the plan, of plain steps with all these sessions)

With many prompts waiting, t is small, and drafts wait; with one short prompt beside a session that
drafts well they go on.
"""

from typing import NamedTuple

from shared.control.step_costs import StepCosts
from shared.control.step_plan import StepPlan
from shared.control.steps import draft_shape


class Riders(NamedTuple):
    """Prompt rows that ride along in a step, and sessions whose prompts are not done."""

    num_rows: int
    num_prompts: int


def pays_beside_prompts(
    costs: StepCosts, plan: StepPlan, arm: int, resume_layer: int, riders: Riders
) -> bool:
    """Say whether a step should draft as planned though prompts ride along.

    Args:
        costs: of which at least one pass is known.
        plan: what the sessions that decode would draft.
        arm: of these drafts; resume_layer: where verification takes them up.
        riders: what rides along.
    """
    num_sessions, num_all = len(plan.lens), len(plan.lens) + riders.num_prompts
    num_kept = plan.expected_per_ns * plan.step_ns - num_sessions
    if num_kept <= 0.0:
        return True
    num_plain = sum(not draft_len for draft_len in plan.lens)
    rows = {0: num_plain + riders.num_rows}
    rows[resume_layer] = rows.get(resume_layer, 0) + sum(k + 1 for k in plan.lens if k)
    with_drafts, without, later = (
        costs.pass_ns(each) or 0.0
        for each in (rows, {0: num_sessions + riders.num_rows}, {0: num_all})
    )
    draft_ns = costs.draft_ns(arm, *draft_shape(plan.lens)) or 0.0
    token_ns = min(1.0 / plan.expected_per_ns, later / num_all)
    return num_kept * token_ns >= draft_ns + with_drafts - without
