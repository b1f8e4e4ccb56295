"""All scenarios of a replay, one after the other. Pure but for the timing of decisions.

stationary    sessions of one kind, each alone in a new cell
in turn       all kinds mixed, one session after the other in one cell, as a server meets them
wrong prior   goodput, begun with what sessions of another kind taught it
shift         sessions that change from one kind to another midway, every pair, both ways
load          1 session, 16, 1 again
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.control.replay.texts import RecordedText
from shortstack.bench.control.contenders import (
    BASELINES,
    GOODPUT_NAME,
    O1_NAME,
    OFF_NAME,
    Belief,
    Contender,
    GovernorSchool,
    Setup,
    baseline_contender,
    static_contender,
)
from shortstack.bench.control.load_steps import PhasePlay, play_load, table_contender
from shortstack.bench.control.plays import (
    Figures,
    SessionPlay,
    Workload,
    Yardsticks,
    figures_of,
    play_apart,
    play_in_turn,
    settled_share,
)
from shortstack.bench.control.sessions import (
    SHIFT_SETTLE_TOKENS,
    by_kind,
    long_sessions,
    mixed,
    shifted,
)

NUM_FOLDS = 2
# Sessions of the other kind that a wrong belief comes from.
NUM_WRONG = 4


@dataclass(frozen=True)
class Evaluation:
    """What was found. load: phases by contender; settled: by contender, on the shift."""

    setup: Setup
    stationary: Mapping[str, Workload]
    in_turn: Workload
    wrong_prior: Mapping[str, Workload]
    shift: Workload | None
    load: Mapping[str, Sequence[PhasePlay]]

    def workloads(self) -> Iterator[Workload]:
        """Return all but the load."""
        yield from self.stationary.values()
        yield self.in_turn
        yield from self.wrong_prior.values()
        if self.shift is not None:
            yield self.shift

    def settled(self) -> dict[str, float]:
        """Return, by contender, speed over O2 of the last segment, once it has gone on a while.

        Empty where no session goes on for so long.
        """
        if self.shift is None:
            return {}
        shares = {
            name: settled_share(self.shift.yardsticks, plays, SHIFT_SETTLE_TOKENS)
            for name, plays in self.shift.plays.items()
        }
        return {name: share for name, share in shares.items() if share is not None}


@dataclass(frozen=True)
class Plan:
    """What to replay. names: contenders, of `contenders.NAMES`; session_len: tokens at least."""

    setup: Setup
    names: Sequence[str]
    session_len: int

    @property
    def with_goodput(self) -> bool:
        """Whether the governor takes part."""
        return GOODPUT_NAME in self.names


def named(name: str, belief: Belief) -> str:
    """Name the governor by what it believed at first."""
    return f"{name}, {belief.value}"


def evaluate(
    plan: Plan, texts: Sequence[RecordedText], on_stage: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Play everything.

    Args:
        plan: contenders, costs and lengths.
        texts: at least one.
        on_stage: is told what is played next.
    """
    kinds = {kind: long_sessions(own, plan.session_len) for kind, own in by_kind(texts).items()}
    school = GovernorSchool(plan.setup) if plan.with_goodput else None
    stationary = {}
    for kind, sessions in kinds.items():
        on_stage(kind)
        others = [own[0] for other, own in kinds.items() if other != kind]
        stationary[kind] = _stationary(plan, school, kind, sessions, others or sessions[:1])
    on_stage("all kinds in turn")
    in_turn = Workload("all", Yardsticks(plan.setup, mixed(kinds)))
    for each in _single(plan, in_turn.yardsticks):
        in_turn.add(each)
    if school is not None:
        in_turn.add(school.contender(GOODPUT_NAME), play_in_turn)
    on_stage("wrong priors")
    wrong = _wrong_priors(school, stationary) if school is not None else {}
    on_stage("shifts")
    shift = _shift(plan, school, kinds)
    on_stage("load")
    return Evaluation(
        plan.setup, stationary, in_turn, wrong, shift, _load(plan, school, in_turn.yardsticks)
    )


def _single(plan: Plan, yardsticks: Yardsticks) -> Iterator[Contender]:
    """Return all but the governor, those that need an exit at the workload's best one."""
    arm = yardsticks.o1
    for name in plan.names:
        if name == OFF_NAME:
            yield static_contender(plan.setup, name, yardsticks.arms[0])
        elif name == O1_NAME:
            yield static_contender(plan.setup, name, arm)
        elif name in BASELINES:
            yield baseline_contender(plan.setup, name, arm)


def _stationary(
    plan: Plan,
    school: GovernorSchool | None,
    kind: str,
    sessions: Sequence[RecordedText],
    others: Sequence[RecordedText],
) -> Workload:
    """Let all play one kind; `others` are sessions that a governor has served and forgotten."""
    workload = Workload(kind, Yardsticks(plan.setup, sessions))
    for each in _single(plan, workload.yardsticks):
        workload.add(each)
    if school is not None:
        workload.add(school.contender(named(GOODPUT_NAME, Belief.NEW)))
        cold = named(GOODPUT_NAME, Belief.COLD)
        workload.add(school.contender(cold, others, forgets_texts=True))
        if len(sessions) >= NUM_FOLDS:
            name = named(GOODPUT_NAME, Belief.TASK)
            workload.plays[name] = _cross_taught(school, name, sessions)
    return workload


def _cross_taught(
    school: GovernorSchool, name: str, sessions: Sequence[RecordedText]
) -> list[SessionPlay]:
    """Play each session as one whose task is known from sessions other than itself."""
    plays: dict[int, SessionPlay] = {}
    for fold in range(NUM_FOLDS):
        own = range(fold, len(sessions), NUM_FOLDS)
        earlier = [each for index, each in enumerate(sessions) if index not in own]
        contender = school.contender(name, earlier)
        played = play_apart(contender, [sessions[index] for index in own])
        plays.update(zip(own, played, strict=True))
    return [plays[index] for index in range(len(sessions))]


def _wrong_priors(
    school: GovernorSchool, stationary: Mapping[str, Workload]
) -> dict[str, Workload]:
    """Let the governor play every kind with what it learned of every other."""
    found = {}
    for kind, own in stationary.items():
        workload = Workload(f"{kind}, wrong prior", own.yardsticks)
        for other, theirs in stationary.items():
            if other != kind:
                earlier = theirs.yardsticks.texts[:NUM_WRONG]
                workload.add(school.contender(f"{GOODPUT_NAME}, prior of {other}", earlier))
        if workload.plays:
            found[kind] = workload
    return found


def _shift(
    plan: Plan, school: GovernorSchool | None, kinds: Mapping[str, Sequence[RecordedText]]
) -> Workload | None:
    sessions = shifted(kinds, plan.session_len)
    if not sessions:
        return None
    workload = Workload("shift", Yardsticks(plan.setup, sessions))
    for each in _single(plan, workload.yardsticks):
        workload.add(each)
    if school is not None:
        served = [own[0] for own in kinds.values()]
        cold = named(GOODPUT_NAME, Belief.COLD)
        workload.add(school.contender(cold, served, forgets_texts=True))
    return workload


def _load(
    plan: Plan, school: GovernorSchool | None, yardsticks: Yardsticks
) -> dict[str, list[PhasePlay]]:
    texts = yardsticks.texts
    contenders = list(_single(plan, yardsticks))
    contenders.append(table_contender(plan.setup, texts))
    if school is not None:
        contenders.append(school.contender(GOODPUT_NAME))
    return {each.name: play_load(each, texts) for each in contenders}


def all_figures(workload: Workload) -> dict[str, Figures]:
    """Return every contender's figures on a workload."""
    return {name: figures_of(workload.yardsticks, own) for name, own in workload.plays.items()}
