"""A machine and its sessions, for what is tested of control under load: seeded, no clock.

The machine is memory-bound for few rows and compute-bound for many; a step takes what its rows
take, times noise, now and then many times that, and for a while longer when another process takes a
core. What is compared is expected tokens over undisturbed times: the decisions, not the luck.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from shared.control.evidence.observation import Observation, Read
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome
from shared.speculation.vocabulary import LAYERSKIP, Decision

NUM_LAYERS = 12
EXIT_LAYER = 2
MS = 1_000_000


@dataclass(frozen=True)
class Machine:
    """Times in ms: a pass takes fixed + row * n, and `knee` more for each row beyond `flat`."""

    fixed_ms: float = 13.4
    row_ms: float = 1.6
    flat_rows: int = 0
    knee_ms: float = 0.0
    draft_fixed_ms: float = 3.2
    draft_row_ms: float = 0.3
    hand_over_ms: float = 0.5
    overhead_ms: float = 0.3
    head_layers: float = 1.5
    noise: float = 0.0
    outlier_rate: float = 0.0

    def whole_pass_ms(self, num_rows: float) -> float:
        """Return the time of rows through all layers; none take none."""
        if num_rows <= 0:
            return 0.0
        beyond = max(0.0, num_rows - self.flat_rows)
        return self.fixed_ms + self.row_ms * num_rows + self.knee_ms * beyond

    def pass_ms(self, num_plain: float, num_resumed: float) -> float:
        """Return the time of rows from layer 0 and rows that resume at the exit."""
        all_layers = NUM_LAYERS + self.head_layers
        share = (all_layers - EXIT_LAYER) / all_layers
        below, above = num_plain, num_plain + num_resumed
        return (1 - share) * self.whole_pass_ms(below) + share * self.whole_pass_ms(above)

    def draft_ms(self, draft_lens: Sequence[int]) -> float:
        """Return the time of a draft phase."""
        if not any(draft_lens):
            return 0.0
        num_steps = max(draft_lens) + 1
        rows = [sum(k and k + 1 > step for k in draft_lens) for step in range(num_steps)]
        steps_ms = sum(self.draft_fixed_ms + self.draft_row_ms * each for each in rows)
        return self.hand_over_ms + steps_ms

    def step_ms(self, draft_lens: Sequence[int], num_prefill: int = 0) -> float:
        """Return the undisturbed time of a step."""
        num_plain = sum(not k for k in draft_lens) + num_prefill
        num_resumed = sum(k + 1 for k in draft_lens if k)
        passes_ms = self.pass_ms(num_plain, num_resumed)
        return self.draft_ms(draft_lens) + passes_ms + self.overhead_ms

    def disturb(self, random: Random) -> float:
        """Return a factor on one time."""
        factor = random.lognormvariate(0.0, self.noise)
        if random.random() < self.outlier_rate:
            factor *= random.uniform(4.0, 30.0)
        return factor


@dataclass
class SimulatedSession:
    """Acceptance by place (the last for all behind), and how often a draft stops by itself."""

    key: str
    acceptance: tuple[float, ...]
    stop_rate: float = 0.0
    # Matches in a row that plain rounds showed: where a draft would be by now.
    run_len: int = 0

    def rate_at(self, place: int) -> float:
        """Return P(a draft at a place is kept | made, all before kept)."""
        return self.acceptance[min(place, len(self.acceptance)) - 1]

    def expected_tokens(self, cap: int) -> float:
        """Return the tokens that a round with a cap brings in the mean."""
        product, total = 1.0, 1.0
        for place in range(1, cap + 1):
            product *= self.rate_at(place) * ((1 - self.stop_rate) if place > 1 else 1.0)
            total += product
        return total

    def draft(self, cap: int, random: Random) -> tuple[int, int]:
        """Return (made, kept) of one round."""
        made = 1 if cap else 0
        while 0 < made < cap and random.random() >= self.stop_rate:
            made += 1
        kept = 0
        while kept < made and random.random() < self.rate_at(kept + 1):
            kept += 1
        return made, kept

    def observe(
        self, exit_layer: int, drawn: tuple[int, int], is_read: bool, random: Random
    ) -> Observation:
        """Return what a round of (made, kept) drafts showed; `is_read` beside its own drafts."""
        made, kept = drawn
        reads: list[Read | None] = [Read(index < kept, 0.5) for index in range(min(made, kept + 1))]
        if len(reads) <= kept:
            place = kept + 1 if made else self.run_len + 1
            is_match = random.random() < self.rate_at(place)
            reads.append(Read(is_match, 0.5) if is_read else None)
            self.run_len = place if not made and is_match else 0
        return Observation(kept + 1, {exit_layer: reads})


@dataclass
class Tally:
    """What a stretch of steps delivered: expected tokens, undisturbed ms; switches but probes."""

    tokens: float = 0.0
    ms: float = 0.0
    plain_tokens: float = 0.0
    plain_ms: float = 0.0
    num_steps: int = 0
    num_switches: int = 0
    num_drafting: int = 0
    longest_ms: float = 0.0

    @property
    def speedup(self) -> float:
        """Rate over that of plain steps with the same sessions."""
        return (self.tokens / self.ms) / (self.plain_tokens / self.plain_ms)


@dataclass
class Simulation:
    """Runs a governor on a machine.

    pace: what the machine takes more at present.
    hidden_draft_ms: what a step with drafts takes beyond its draft phase and pass.
    """

    machine: Machine
    seed: int
    wished_len: int = 4
    pace: float = 1.0
    hidden_draft_ms: float = 0.0
    sessions: list[SimulatedSession] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.costs = StepCosts(NUM_LAYERS)
        self.governor = LoadGovernor(self.costs)
        self._was_drafting = False

    def run(self, num_steps: int, prefill: Iterable[int] = ()) -> Tally:
        """Run steps; `prefill` gives the prompt rows of the first of them."""
        tally = Tally()
        rows = iter(prefill)
        for _ in range(num_steps):
            self._step(tally, next(rows, 0))
        return tally

    def step_lens(self) -> list[int]:
        """Run one step; return what each session drafted."""
        return self._step(Tally(), 0)

    def _step(self, tally: Tally, num_prefill: int) -> list[int]:
        wished = Decision(LAYERSKIP, EXIT_LAYER, self.wished_len)
        loads = [SessionLoad(each.key, wished) for each in self.sessions]
        decisions = self.governor.decide(loads, num_prompts=int(num_prefill > 0))
        caps = [0 if each.is_off else each.max_draft_len for each in decisions]
        drawn = [
            each.draft(cap, self.random) for each, cap in zip(self.sessions, caps, strict=True)
        ]
        lens = [made for made, _ in drawn]
        read = self.governor.shadow(loads, decisions)
        draft_ns, pass_ns = self._times(lens, num_prefill)
        more_ms = self.machine.overhead_ms + self.hidden_draft_ms * any(lens)
        self.governor.note_step(
            StepOutcome(
                [
                    RoundOutcome(
                        each.key,
                        decision,
                        made,
                        kept,
                        kept + 1,
                        each.observe(EXIT_LAYER, (made, kept), each.key in read, self.random),
                    )
                    for each, decision, (made, kept) in zip(
                        self.sessions, decisions, drawn, strict=True
                    )
                ],
                num_prefill,
                draft_ns,
                pass_ns,
                draft_ns + pass_ns + int(MS * self.pace * more_ms),
                # A tenth of a millisecond for each session that is read.
                read_ns=len(read) * MS // 10,
            )
        )
        self._count(tally, caps, lens, num_prefill)
        if not any(each.reason == "probe" for each in decisions):
            tally.num_switches += any(caps) != self._was_drafting
            self._was_drafting = any(caps)
        return lens

    def _times(self, lens: Sequence[int], num_prefill: int) -> tuple[int, int]:
        num_plain = sum(not k for k in lens) + num_prefill
        num_resumed = sum(k + 1 for k in lens if k)
        draft_ms = self.machine.draft_ms(lens) * self.machine.disturb(self.random)
        pass_ms = self.machine.pass_ms(num_plain, num_resumed) * self.machine.disturb(self.random)
        return int(MS * self.pace * draft_ms), int(MS * self.pace * pass_ms)

    def _count(
        self, tally: Tally, caps: Sequence[int], lens: Sequence[int], num_prefill: int
    ) -> None:
        step_ms = self.machine.step_ms(lens, num_prefill)
        tally.num_steps += 1
        tally.tokens += sum(
            each.expected_tokens(cap) for each, cap in zip(self.sessions, caps, strict=True)
        )
        tally.ms += step_ms
        tally.longest_ms = max(tally.longest_ms, step_ms)
        tally.plain_tokens += len(self.sessions)
        tally.plain_ms += self.machine.step_ms([0] * len(self.sessions), num_prefill)
        tally.num_drafting += any(caps)

    def best_speedup(self) -> float:
        """Return the oracle's: the best cap for all sessions, off included, drafts never cut."""
        size = len(self.sessions)
        plain = size / self.machine.step_ms([0] * size)
        rates = [
            sum(each.expected_tokens(cap) for each in self.sessions)
            / self.machine.step_ms([cap] * size)
            for cap in range(self.wished_len + 1)
        ]
        return max(rates) / plain


def make_sessions(
    size: int, acceptance: tuple[float, ...], tag: str = ""
) -> list[SimulatedSession]:
    """Return sessions that are all alike."""
    return [SimulatedSession(f"s{tag}{index}", acceptance) for index in range(size)]
