"""Sessions played under contenders, and what they are measured by. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from shared.control.replay.cell import PlayedStep, ReplayCell
from shared.control.replay.texts import RecordedText, cut
from shared.control.replay.yardsticks import (
    arm_times,
    best_arm,
    best_in_hindsight,
    clairvoyant_ns,
    static_arms,
)
from shared.speculation.vocabulary import Decision
from shortstack.bench.control.contenders import LONGEST_BASELINE_DRAFT, Contender, Setup
from shortstack.bench.control.sessions import segments

NS_PER_S = 1e9


@dataclass(frozen=True)
class SessionPlay:
    """One session that had a cell to itself."""

    text: RecordedText
    started_ns: int
    steps: Sequence[PlayedStep]

    @property
    def ns(self) -> int:
        """From its first step to its last."""
        return self.steps[-1].end_ns - self.started_ns

    @property
    def shadow_ns(self) -> int:
        """Of this, reading exits that did not draft."""
        return sum(step.spend.shadow_ns for step in self.steps)

    def since(self, place: int) -> tuple[int, int]:
        """Return the first place at or behind this one where a round began, and ns from there."""
        for before, step in zip([None, *self.steps], self.steps, strict=False):
            start = step.rounds[0].round.start
            if start >= place:
                began_ns = self.started_ns if before is None else before.end_ns
                return start, self.steps[-1].end_ns - began_ns
        return self.text.tape.num_tokens, 0


def play(cell: ReplayCell, text: RecordedText) -> SessionPlay:
    """Play one session to its end in a cell where nobody else decodes."""
    started_ns, steps = cell.now_ns, []
    cell.admit(f"{text.text_id}@{started_ns}", text)
    while cell.num_sessions:
        steps.append(cell.step())
    return SessionPlay(text, started_ns, steps)


def play_apart(contender: Contender, texts: Sequence[RecordedText]) -> Iterator[SessionPlay]:
    """Play each session in a new cell: none learns from another."""
    return (play(contender.new_cell(), text) for text in texts)


def play_in_turn(contender: Contender, texts: Sequence[RecordedText]) -> Iterator[SessionPlay]:
    """Play sessions one after the other in one cell, as a server meets them."""
    cell = contender.new_cell()
    return (play(cell, text) for text in texts)


@dataclass(frozen=True)
class Yardsticks:
    """What the sessions of a workload take under settings chosen with hindsight, in ns."""

    setup: Setup
    texts: Sequence[RecordedText]

    @cached_property
    def arms(self) -> list[Decision]:
        """Off, and every exit with every length."""
        return static_arms(self.setup.exits)

    @cached_property
    def _times(self) -> list[list[float]]:
        return self._times_of(self.texts)

    def _times_of(self, texts: Sequence[RecordedText]) -> list[list[float]]:
        return arm_times([each.tape for each in texts], self.arms, self.setup.times.round_ns)

    @property
    def plain_ns(self) -> list[float]:
        """Plain decoding, by session."""
        return [row[0] for row in self._times]

    @cached_property
    def o1(self) -> Decision:
        """The best static setting of the workload."""
        return self.arms[best_arm(self._times)]

    @property
    def o1_ns(self) -> list[float]:
        """By session."""
        index = self.arms.index(self.o1)
        return [row[index] for row in self._times]

    @cached_property
    def o2_ns(self) -> list[float]:
        """The best setting of each session; where one shifts, of each of its segments."""
        return [
            sum(best_in_hindsight(self._times_of(segments(text)))) if text.shifts else min(row)
            for text, row in zip(self.texts, self._times, strict=True)
        ]

    @cached_property
    def o3_ns(self) -> list[float]:
        """Who knows the future, by session."""
        setup = self.setup
        return [
            clairvoyant_ns(each.tape, setup.exits, LONGEST_BASELINE_DRAFT, setup.times.round_ns)
            for each in self.texts
        ]

    def segment_o2(self, text: RecordedText) -> list[Decision]:
        """Return the best static setting of every segment of a session."""
        return [self.arms[best_arm([row])] for row in self._times_of(segments(text))]


@dataclass(frozen=True)
class Workload:
    """Sessions, and how every contender played them; plays are in the sessions' order."""

    name: str
    yardsticks: Yardsticks
    plays: dict[str, Sequence[SessionPlay]] = field(default_factory=dict)

    def add(
        self, contender: Contender, how: "Callable[..., Iterator[SessionPlay]]" = play_apart
    ) -> None:
        """Let a contender play all sessions."""
        self.plays[contender.name] = list(how(contender, self.yardsticks.texts))


@dataclass(frozen=True, slots=True)
class Figures:
    """How one contender did on one workload.

    over_plain, over_o1: speed over that of the yardstick, all sessions together.
    share_of_o2: speed over that of the best setting in hindsight, mean over sessions, and the
        tenth of them that did worst (its best).
    worst_over_plain: of the slowest session; num_slower: sessions slower than plain by > 2 %.
    """

    tok_s: float
    over_plain: float
    over_o1: float
    share_of_o2: float
    share_of_o2_p10: float
    worst_over_plain: float
    num_slower: int
    num_sessions: int
    num_rounds: int
    shadow_share: float


SLOWER = 1 / 1.02


def figures_of(yardsticks: Yardsticks, plays: Sequence[SessionPlay]) -> Figures:
    """Compare a contender's sessions with the yardsticks."""
    ns = [play.ns for play in plays]
    shares = sorted(o2 / own for o2, own in zip(yardsticks.o2_ns, ns, strict=True))
    over_plain = [plain / own for plain, own in zip(yardsticks.plain_ns, ns, strict=True)]
    num_tokens = sum(text.tape.num_tokens for text in yardsticks.texts)
    return Figures(
        tok_s=num_tokens * NS_PER_S / sum(ns),
        over_plain=sum(yardsticks.plain_ns) / sum(ns),
        over_o1=sum(yardsticks.o1_ns) / sum(ns),
        share_of_o2=sum(shares) / len(shares),
        share_of_o2_p10=shares[len(shares) // 10],
        worst_over_plain=min(over_plain),
        num_slower=sum(each < SLOWER for each in over_plain),
        num_sessions=len(plays),
        num_rounds=sum(len(play.steps) for play in plays),
        shadow_share=sum(play.shadow_ns for play in plays) / sum(ns),
    )


def settled_share(
    yardsticks: Yardsticks, plays: Sequence[SessionPlay], num_tokens: int
) -> float | None:
    """Return speed over that of the last segment's best setting, from so many tokens into it.

    A mean over sessions that shift; those that end before are left out. None if all do.
    """
    shares = []
    for each in plays:
        start, own_ns = each.since(each.text.shifts[-1] + num_tokens)
        if own_ns:
            arm = yardsticks.segment_o2(each.text)[-1]
            shares.append(_rest_ns(yardsticks.setup, each.text, start, arm) / own_ns)
    return sum(shares) / len(shares) if shares else None


def _rest_ns(setup: Setup, text: RecordedText, start: int, arm: Decision) -> float:
    rest = cut(text, start, text.tape.num_tokens)
    return arm_times([rest.tape], [arm], setup.times.round_ns)[0][0]
