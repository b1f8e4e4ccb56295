"""What a controller is measured by: settings chosen with hindsight, and one who knows the future.

    O1    the best static setting of a workload, off included
    O2    the best static setting of every session, chosen in hindsight
    O3    clairvoyant: every round with the exit and length that are best for what is to come

          Tm[t] = min over E, k of  C(E, k) + Tm[t + emitted(E, k)]        Tm[end] = 0

Pure. All for one session at a time, as tokens of a batch have no time of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product

from shared.control.replay.rounds import play_round
from shared.speculation.tape import Tape
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision

DRAFT_LENS = (1, 2, 3, 4, 6, 8)
# C(E, k) in ns, C(., 0) that of a plain step.
RoundCost = Callable[[int, int], float]


def static_arms(exits: Iterable[int], draft_lens: Iterable[int] = DRAFT_LENS) -> list[Decision]:
    """Return off, and every exit with every length."""
    settings = product(exits, draft_lens)
    return [PLAIN_DECISION, *(Decision(LAYERSKIP, e, d, reason="static") for e, d in settings)]


def arm_ns(tape: Tape, arm: Decision, round_ns: RoundCost) -> float:
    """Return the time of a tape under one static setting."""
    total_ns, place = 0.0, 0
    while place < tape.num_tokens:
        played = play_round(tape, place, arm)
        total_ns += round_ns(arm.exit_layer, played.draft_len)
        place += played.num_emitted
    return total_ns


def arm_times(
    tapes: Sequence[Tape], arms: Sequence[Decision], round_ns: RoundCost
) -> list[list[float]]:
    """Return the time of every tape under every setting: a row per tape."""
    return [[arm_ns(tape, arm, round_ns) for arm in arms] for tape in tapes]


def best_arm(times: Sequence[Sequence[float]]) -> int:
    """Return O1: the index of the setting that is best for all tapes together."""
    totals = [sum(column) for column in zip(*times, strict=True)]
    return totals.index(min(totals))


def best_in_hindsight(times: Sequence[Sequence[float]]) -> list[float]:
    """Return O2: the time of every tape at its own best setting."""
    return [min(row) for row in times]


def clairvoyant_ns(
    tape: Tape, exits: Sequence[int], max_draft_len: int, round_ns: RoundCost
) -> float:
    """Return O3: the least time that any choice of exits and lengths could take."""
    arms = static_arms(exits, range(1, max_draft_len + 1))
    costs = {(e, k): round_ns(e, k) for e in exits for k in range(1, max_draft_len + 1)}
    plain_ns = round_ns(0, 0)
    best_ns = [0.0] * (tape.num_tokens + 1)
    for place in reversed(range(tape.num_tokens)):
        least = plain_ns + best_ns[place + 1]
        for arm in arms[1:]:
            played = play_round(tape, place, arm)
            if played.draft_len:
                cost_ns = costs[arm.exit_layer, played.draft_len]
                least = min(least, cost_ns + best_ns[place + played.num_emitted])
        best_ns[place] = least
    return best_ns[0]
