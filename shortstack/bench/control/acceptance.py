"""What is required of `goodput`, and whether a replay met it. Pure.

A row says what was asked, what was found and where the worst of it was; a row whose scenario was
not played is left out, and so are those that only a running server can answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shortstack.bench.control.contenders import GOODPUT_NAME, OFF_NAME, Belief
from shortstack.bench.control.evaluate import Evaluation, all_figures, named
from shortstack.bench.control.load_steps import NS_PER_MINUTE, PhasePlay, percentile
from shortstack.bench.control.plays import SLOWER, Figures

COLD = named(GOODPUT_NAME, Belief.COLD)
TASK = named(GOODPUT_NAME, Belief.TASK)
DEL_NAME = "del"
MIN_JUDGED_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement. bound is the least allowed, or the most where `is_most`."""

    what: str
    bound: float
    found: float
    where: str = ""
    is_most: bool = False

    @property
    def is_met(self) -> bool:
        """Whether what was found lies within the bound."""
        return self.found <= self.bound if self.is_most else self.found >= self.bound


def judge(found: Evaluation) -> list[Row]:
    """Return a row per requirement that the replay can answer."""
    stationary = {kind: all_figures(each) for kind, each in found.stationary.items()}
    rows = [
        *_of_o2(stationary, TASK, 0.97),
        *_of_o2(stationary, COLD, 0.95),
        *_over_others(found, stationary),
        *_of_wrong_priors(found),
        *_of_shifts(found),
        *_against_plain(found),
        *_of_load(found.load),
        *_of_shadow(found),
    ]
    return rows


def _of_o2(
    stationary: Mapping[str, Mapping[str, Figures]], name: str, bound: float
) -> Iterator[Row]:
    shares = {kind: each[name].share_of_o2 for kind, each in stationary.items() if name in each}
    if shares:
        worst = min(shares, key=lambda kind: shares[kind])
        mean = sum(shares.values()) / len(shares)
        where = f"worst: {worst} {shares[worst]:.3f}"
        yield Row(f"{name} / O2, stationary, mean over kinds", bound, mean, where)


def _over_others(
    found: Evaluation, stationary: Mapping[str, Mapping[str, Figures]]
) -> Iterator[Row]:
    """Compare per workload: kinds with a known task, all kinds in turn."""
    goodput = {
        kind: each[TASK if TASK in each else COLD]
        for kind, each in stationary.items()
        if COLD in each
    }
    in_turn = all_figures(found.in_turn)
    rivals = {kind: each[DEL_NAME] for kind, each in stationary.items() if DEL_NAME in each}
    if GOODPUT_NAME in in_turn:
        goodput["all"] = in_turn[GOODPUT_NAME]
    if DEL_NAME in in_turn:
        rivals["all"] = in_turn[DEL_NAME]
    yield from _worst("goodput / O1, worst workload", 0.99, _each(goodput, lambda f: f.over_o1))
    ratios = {
        kind: own.tok_s / rivals[kind].tok_s for kind, own in goodput.items() if kind in rivals
    }
    yield from _worst("goodput / del, worst workload", 1.00, ratios)


def _each(figures: Mapping[str, Figures], value: Callable[[Figures], float]) -> dict[str, float]:
    return {name: value(each) for name, each in figures.items()}


def _worst(what: str, bound: float, values: Mapping[str, float]) -> Iterator[Row]:
    if values:
        worst = min(values, key=lambda name: values[name])
        yield Row(what, bound, values[worst], worst)


def _of_wrong_priors(found: Evaluation) -> Iterator[Row]:
    shares = {
        f"{kind} with the {name.partition(', ')[2]}": figures.share_of_o2
        for kind, workload in found.wrong_prior.items()
        for name, figures in all_figures(workload).items()
    }
    if shares:
        worst = min(shares, key=lambda name: shares[name])
        mean = sum(shares.values()) / len(shares)
        yield Row("wrong prior / O2, mean", 0.93, mean, f"worst: {worst} {shares[worst]:.3f}")


def _of_shifts(found: Evaluation) -> Iterator[Row]:
    if found.shift is None or COLD not in found.shift.plays:
        return
    figures = all_figures(found.shift)[COLD]
    yield Row("one shift: whole session / O2 per segment, mean", 0.94, figures.share_of_o2)
    if (settled := found.settled().get(COLD)) is not None:
        yield Row("one shift: from 100 tokens after it / that segment's O2", 0.93, settled)


def _against_plain(found: Evaluation) -> Iterator[Row]:
    """Look at every session of the governor, whatever it believed."""
    ratios: dict[str, float] = {}
    for workload in found.workloads():
        plain_ns = workload.yardsticks.plain_ns
        for name, plays in workload.plays.items():
            if not name.startswith(GOODPUT_NAME):
                continue
            for plain, play in zip(plain_ns, plays, strict=True):
                if play.text.tape.num_tokens >= MIN_JUDGED_TOKENS:
                    ratios[f"{name}: {play.text.text_id[:40]}"] = plain / play.ns
    if ratios:
        slower = [each for each in ratios.values() if each < SLOWER]
        share, of_all = len(slower) / len(ratios), f"{len(slower)} of {len(ratios)}"
        yield Row("sessions slower than plain by > 2 %", 0.01, share, of_all, is_most=True)
        yield from _worst("slowest session / plain", 0.95, ratios)


def _switches_per_minute(phases: Sequence[PhasePlay], num_sessions: int) -> float:
    """Return the switches per minute of all phases of so many sessions together."""
    own = [each for each in phases if each.num_sessions == num_sessions]
    return sum(each.num_switches for each in own) * NS_PER_MINUTE / sum(each.ns for each in own)


def _of_load(load: Mapping[str, Sequence[PhasePlay]]) -> Iterator[Row]:
    if GOODPUT_NAME not in load or OFF_NAME not in load:
        return
    own, plain = load[GOODPUT_NAME], load[OFF_NAME]
    ratios = [a.tok_s / b.tok_s for a, b in zip(own, plain, strict=True)]
    busiest = max(range(len(own)), key=lambda index: own[index].num_sessions)
    size = own[busiest].num_sessions
    yield Row(f"load step: tokens/s / plain at {size} sessions", 0.99, ratios[busiest])
    by_load = {each.num_sessions: _switches_per_minute(own, each.num_sessions) for each in own}
    worst = max(by_load, key=lambda num_sessions: by_load[num_sessions])
    what = "load step: mode switches per minute at one load, most of them"
    yield Row(what, 6, by_load[worst], f"at {worst} sessions", is_most=True)
    yield from _of_decisions(own)


def _of_decisions(phases: Sequence[PhasePlay]) -> Iterator[Row]:
    """Judge what decisions took themselves; the wall's time says how busy the machine was."""
    bounds = {1: 100.0, 16: 500.0}
    for size, bound in bounds.items():
        timed = [each for each in phases if each.num_sessions == size and each.decide_us]
        if timed:
            worst, wall = (
                max(percentile(times, 0.99) for times in each)
                for each in (
                    [phase.decide_us for phase in timed],
                    [phase.decide_wall_us for phase in timed],
                )
            )
            where = f"of this thread's time; by the wall {wall:.3g}"
            yield Row(f"decide p99 at B = {size}, us", bound, worst, where, is_most=True)


def _of_shadow(found: Evaluation) -> Iterator[Row]:
    """Count all reads; the bound is on those outside first and alarm bursts, so this is harder."""
    figures = all_figures(found.in_turn).get(GOODPUT_NAME)
    if figures is not None:
        where = "of all time, first and alarm bursts included"
        yield Row("shadow share", 0.01, figures.shadow_share, where, is_most=True)
