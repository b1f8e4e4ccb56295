"""The policy `del`: exit, length and threshold by tokens per layer. Pure.

DEL (arXiv:2504.05598). Every round reads every exit, so that all are judged by the same positions,
those up to and including the first mismatch of the exit in use: rows 0..a of the round, which are
all that an observation holds. Once per round, for each exit l:

    N+ <- omega * N+ + matches            N- <- omega * N- + mismatches         omega = 0.95
    S+ <- omega * S+ + conf of matches    S- <- omega * S- + conf of mismatches
    alpha_l = N+ / (N+ + N-)              tau+ = S+ / N+     tau- = S- / N-

    TPL(l, d)  = (1 + alpha_l + ... + alpha_l^d) / (d * l + L)        d = 0 .. 17
    (E*, d*)   = argmax, ties to the lowest l, then the lowest d; d* = 0 is off
    theta      = (tau+ + tau-) / 2 of E*; 0 where either is undefined

    del            drafts d*, or stops below theta
    del_threshold  drafts at least one, up to 18; only theta stops, as in the public code
    del_cost       del with measured C(E, d) in place of d * l + L: an ablation

The rest is DEL as it is: neither prior nor hysteresis, nothing kept from one request to the next.
omega and the lengths 17 and 18 are the public code's, inferred for the paper; that d* caps the
draft is inferred too. One thing is ours: while theta is undefined `del_threshold` drafts d* and at
least one, for there nothing would stop it short of 18.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from shared.control.evidence.observation import Observation, Read
from shared.control.policies.base import PolicyContext
from shared.speculation.vocabulary import OFF, PLAIN_DECISION, Decision

OMEGA = 0.95
MAX_PLANNED_LEN = 17
MAX_THRESHOLD_LEN = 18
NUM_PROMPT_POSITIONS = 32
# Sums below this have faded away; ratios of what underflows would mean nothing.
LEAST_SUM = 1e-100
# Values nearer than this are a tie.
TIE = 1.0 + 1e-12


@dataclass(frozen=True, slots=True)
class DelRule:
    """A variant. stops_by_threshold: d* is no cap; knows_costs: measured costs, not layers."""

    name: str
    stops_by_threshold: bool = False
    knows_costs: bool = False


DEL = DelRule("del")
DEL_THRESHOLD = DelRule("del_threshold", stops_by_threshold=True)
DEL_COST = DelRule("del_cost", knows_costs=True)


class DelChoice(NamedTuple):
    """An exit, a draft length, and what they are expected to bring: tokens per layer, or per ns."""

    exit_layer: int
    draft_len: int
    tokens_per_cost: float


class ExitSums:
    """Decayed counts and confidences of one exit, matches and mismatches apart."""

    __slots__ = ("_confidence", "_count")

    def __init__(self) -> None:
        """Begin without any position."""
        self._count = [0.0, 0.0]
        self._confidence = [0.0, 0.0]

    def fade(self, rate: float) -> None:
        """Let all that was counted weigh less."""
        for sums in (self._count, self._confidence):
            for side, value in enumerate(sums):
                sums[side] = rate * value if value >= LEAST_SUM else 0.0

    def add(self, reads: Sequence[Read | None]) -> None:
        """Count positions with weight 1; those that were not read are left out."""
        for read in reads:
            if read is not None:
                self._count[read.is_match] += 1.0
                self._confidence[read.is_match] += read.confidence

    @property
    def alpha(self) -> float | None:
        """The match rate; None without any position."""
        total = sum(self._count)
        return self._count[True] / total if total else None

    @property
    def threshold(self) -> float | None:
        """Midway between the mean confidences of matches and mismatches; None lacking either."""
        if not all(self._count):
            return None
        means = [self._confidence[side] / self._count[side] for side in (False, True)]
        return min(1.0, max(0.0, sum(means) / 2.0))


class Del:
    """DEL for one session."""

    wants_full_shadow = True

    def __init__(self, context: PolicyContext, rule: DelRule = DEL) -> None:
        """Begin with nothing known.

        Raises:
            ValueError: the rule goes by costs and the context has none.
        """
        if rule.knows_costs and context.cost_ns is None:
            raise ValueError(f"policy {rule.name} needs measured costs: give the context cost_ns")
        self._context = context
        self._rule = rule
        self._sums = {exit_layer: ExitSums() for exit_layer in context.exits}
        self._is_first = True

    @property
    def name(self) -> str:
        """The rule's name."""
        return self._rule.name

    # --- deciding -------------------------------------------------------------------------------

    def wish(self, default: Decision) -> Decision:
        """Return the decision for the next round.

        Its reason is `policy`, or

            cold          the first round, or nothing was read yet: one draft at the lowest exit
            unprofitable  plain: no draft brings more than it takes, by the rule's measure
            no_costs      plain: the rule goes by costs that are not known yet
        """
        if default.method == OFF:
            return default
        if not self._has_costs():
            return replace(PLAIN_DECISION, reason="no_costs")
        choice = None if self._is_first else self.best()
        if choice is None:
            lowest = self._context.exits[0]
            return Decision(default.method, lowest, 1, 0.0, "cold")
        exit_layer, draft_len, _ = choice
        threshold = self._sums[exit_layer].threshold
        if self._rule.stops_by_threshold:
            draft_len = max(1, draft_len) if threshold is None else MAX_THRESHOLD_LEN
        if draft_len == 0:
            return replace(PLAIN_DECISION, reason="unprofitable")
        draft_len = min(draft_len, self._context.max_draft_len)
        return Decision(default.method, exit_layer, draft_len, threshold or 0.0, "policy")

    def best(self) -> DelChoice | None:
        """Return E* and d* by all that was counted so far; None where nothing was."""
        best: DelChoice | None = None
        for exit_layer in self._context.exits:
            for each in self.ratings(exit_layer):
                if best is None or each.tokens_per_cost > best.tokens_per_cost * TIE:
                    best = each
        return best

    def ratings(self, exit_layer: int) -> list[DelChoice]:
        """Return what d = 0, 1, .. drafts of an exit are worth; none of an exit not read yet."""
        alpha = self._sums[exit_layer].alpha
        ratings: list[DelChoice] = []
        if alpha is None:
            return ratings
        num_tokens = power = 1.0
        for draft_len in range(min(MAX_PLANNED_LEN, self._context.max_draft_len) + 1):
            cost = self._cost(exit_layer, draft_len)
            if not cost:
                break
            ratings.append(DelChoice(exit_layer, draft_len, num_tokens / cost))
            power *= alpha
            num_tokens += power
        return ratings

    def _cost(self, exit_layer: int, draft_len: int) -> float | None:
        """Return what a round takes: layers, or ns; None where that is not known."""
        if self._rule.knows_costs and self._context.cost_ns is not None:
            return self._context.cost_ns(exit_layer, draft_len)
        return float(draft_len * exit_layer + self._context.num_layers)

    def _has_costs(self) -> bool:
        """Whether it is known what a plain step takes, and a draft at some exit."""
        exits = self._context.exits
        return bool(self._cost(exits[0], 0)) and any(self._cost(each, 1) for each in exits)

    # --- learning -------------------------------------------------------------------------------

    def note(
        self, decision: Decision, num_drafted: int, num_accepted: int, observation: Observation
    ) -> None:
        """Count the positions of a round, plain rounds included."""
        self._is_first = False
        for exit_layer, sums in self._sums.items():
            sums.fade(OMEGA)
            sums.add(observation.reads.get(exit_layer, ()))

    def note_prompt(self, observation: Observation) -> None:
        """Count the end of the prompt, once, before or behind the first round.

        Args:
            observation: what the exits said along the prompt, matched with the full model's own
                choice there, not with the prompt's tokens. The last 32 positions count.
        """
        for exit_layer, sums in self._sums.items():
            sums.add(observation.reads.get(exit_layer, ())[-NUM_PROMPT_POSITIONS:])
