"""Costs as a process has them that has swept its own steps before it served anybody. Pure."""

from collections.abc import Iterable

from shared.control.replay.step_times import DraftLoad, StepTimes
from shared.control.step_costs import StepCosts

NUM_SESSIONS = (1, 2, 4, 8, 16)
# Drafts of a phase; two lengths tell the hand-over from the steps.
DRAFT_LENS = (1, 2, 4, 8)
NUM_RUNS = 10


def swept_costs(times: StepTimes, num_sessions: Iterable[int] = NUM_SESSIONS) -> StepCosts:
    """Return costs that have seen every exit at these numbers of sessions, without noise."""
    costs = StepCosts(times.num_layers)
    for _ in range(NUM_RUNS):
        for size in num_sessions:
            costs.note_pass({0: size}, round(times.pass_ns({0: size}, size)))
            for exit_layer in times.exits:
                for draft_len in DRAFT_LENS:
                    drafts = [DraftLoad(exit_layer, draft_len)] * size
                    phase_ns = round(times.draft_phase_ns(drafts))
                    costs.note_draft(exit_layer, size, draft_len, phase_ns)
                    rows = {exit_layer: size * (draft_len + 1)}
                    # Behind the last draft an exit is read where one session decodes alone.
                    num_reads = int(size == 1)
                    costs.note_pass(rows, round(times.pass_ns(rows, size, num_reads)))
    return costs
