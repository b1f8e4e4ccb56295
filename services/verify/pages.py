"""Pages for a plan: every session of a pass gets what it will write to, or waits.

A draft gets shorter before anybody loses memory for it.
"""

from collections.abc import Container
from dataclasses import replace

from services.verify.memory import SessionMemory
from services.verify.roster import Roster
from services.verify.scheduler import Plan
from services.verify.session import Session, by_place


def fit_to_pages(
    plan: Plan, memory: SessionMemory, roster: Roster, in_flight: Container[Session]
) -> Plan:
    """Let the sessions of a plan grow, by age, and return it without those that have no pages.

    Args:
        plan: what is to run; its sessions are not in flight.
        memory: where pages come from.
        roster: who may lose pages.
        in_flight: sessions that cannot lose theirs now.
    """
    decisions = dict(plan.decoding)
    for session in sorted(decisions, key=by_place):
        if session.table is None:
            continue
        decision, length = decisions[session], session.committed_len
        if memory.grow(session, length + decision.max_nodes):
            continue
        room = max(0, session.table.num_positions - length)
        decisions[session] = decision.cut(room, room, "no_pages")
        roster.make_room(session, length, in_flight)
    decoding = [
        (session, decision)
        for session, decision in decisions.items()
        if session.table is not None and session.table.num_positions >= session.committed_len
    ]
    prefills = [each for each in plan.prefills if each.session.table is not None]
    return replace(plan, decoding=tuple(decoding), prefills=tuple(prefills))


def pool_state(memory: SessionMemory) -> dict[str, int]:
    """Return figures for the info call; another thread reads them, at about one moment."""
    allocator, num_cached = memory.allocator, memory.num_cached
    return {
        "num_pages": allocator.num_pages,
        "num_free": allocator.num_free,
        "num_used": max(0, allocator.num_used - num_cached),
        "num_quarantined": allocator.num_quarantined,
        "num_cached": num_cached,
    }
