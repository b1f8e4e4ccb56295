"""What a live comparison adds up to. Pure.

Per prompt and contender the median over repeats counts; speeds of a kind are its tokens over the
sum of these times, first message to last. The best static setting is chosen by the same samples
that it is judged by, which flatters it by what luck gave the luckiest of many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import linear_regression, median
from typing import NamedTuple

from shared.control.replay.step_times import DraftLoad, StepTimes
from shared.speculation.tape import Tape, replay
from shared.speculation.vocabulary import Decision, SpeculationSummary
from shortstack.bench.control.plays import SLOWER
from shortstack.bench.samples import Sample, kinds_of, total_speculation

PLAIN_NAME = "plain"
ALL_KINDS = "all"
NS_PER_S = 1e9
NS_PER_MS = 1e6
# Settings with drafts that hand-over and stretch are told apart by.
MIN_FITTED = 3


@dataclass(frozen=True, slots=True)
class LiveContender:
    """A name, and the static setting that it stands for, if it is one."""

    name: str
    arm: Decision | None = None


@dataclass(frozen=True, slots=True)
class LiveKind:
    """One kind of text. over_best: by contender that is no static setting.

    slower_than_plain: by contender, the share of prompts slower than plain decoding by > 2 %.
    """

    kind: str
    tok_s: Mapping[str, float]
    best_static: str
    over_best: Mapping[str, float]
    slower_than_plain: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ArmCheck:
    """A static setting live and replayed. ns: of a round in the mean; counts: prompts compared.

    predicted_ns: by measured costs; what they take between processes is told by the others. None
    without costs.
    """

    name: str
    live_ns: float
    predicted_ns: float | None
    num_compared: int
    num_differing: int


Samples = Mapping[str, Sequence[Sample]]


def kinds_found(samples: Samples, contenders: Sequence[LiveContender]) -> list[LiveKind]:
    """Return every kind of text, and all together."""
    kinds = kinds_of(samples[PLAIN_NAME])
    names = [*kinds, ALL_KINDS] if len(kinds) > 1 else kinds
    return [_kind(name, kinds, samples, contenders) for name in names]


def _kind(
    name: str, kinds: Sequence[str], samples: Samples, contenders: Sequence[LiveContender]
) -> LiveKind:
    wanted = set(kinds) if name == ALL_KINDS and name not in kinds else {name}
    times = {
        each.name: _median_ns([s for s in samples[each.name] if s.kind in wanted])
        for each in contenders
    }
    num_tokens = {
        s.prompt_id: len(s.token_ids) - s.first_len for s in samples[PLAIN_NAME] if s.kind in wanted
    }
    # A text that came with the first message has no time to compare.
    prompts = [p for p in num_tokens if all(own.get(p) for own in times.values())]
    speeds = {
        contender: sum(num_tokens[p] for p in prompts) * NS_PER_S / sum(own[p] for p in prompts)
        for contender, own in times.items()
        if prompts
    }
    static = [each.name for each in contenders if each.arm is not None and each.name in speeds]
    best = max(static, key=lambda contender: speeds[contender]) if static else ""
    return LiveKind(
        name,
        speeds,
        best,
        {
            each.name: speeds[each.name] / speeds[best]
            for each in contenders
            if each.arm is None and best
        },
        {
            contender: sum(times[PLAIN_NAME][p] / own[p] < SLOWER for p in prompts) / len(prompts)
            for contender, own in times.items()
            if prompts
        },
    )


def added_ttft_ms(samples: Samples, names: Sequence[str]) -> dict[str, float]:
    """Return by contender the time to the first message beyond plain decoding's, median of prompts.

    Of each prompt's turns the middle one counts.
    """
    own = {name: _median_first_ns(samples[name]) for name in (PLAIN_NAME, *names)}
    plain = own[PLAIN_NAME]
    return {
        name: median(own[name][prompt] - plain[prompt] for prompt in plain) / NS_PER_MS
        for name in names
    }


def _median_first_ns(samples: Sequence[Sample]) -> dict[str, float]:
    by_prompt: dict[str, list[int]] = {}
    for sample in samples:
        by_prompt.setdefault(sample.prompt_id, []).append(sample.first_ns)
    return {prompt_id: median(values) for prompt_id, values in by_prompt.items()}


def _median_ns(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the decode time of every prompt; those without one are left out."""
    by_prompt: dict[str, list[int]] = {}
    for sample in samples:
        if sample.decode_tok_s is not None:
            by_prompt.setdefault(sample.prompt_id, []).append(sample.decode_ns)
    return {prompt_id: median(values) for prompt_id, values in by_prompt.items()}


def num_mismatches(samples: Samples) -> int:
    """Return how many texts differ from plain decoding's first."""
    reference = {s.prompt_id: s.token_ids for s in reversed(samples[PLAIN_NAME])}
    return sum(s.token_ids != reference[s.prompt_id] for own in samples.values() for s in own)


def rounds_of(samples: Sequence[Sample]) -> SpeculationSummary:
    """Return the rounds behind the first message; a session counts its prefill as a plain one."""
    did = total_speculation(samples)
    return replace(did, num_plain_rounds=did.num_plain_rounds - len(samples))


def live_round_ns(samples: Sequence[Sample]) -> float:
    """Return the time of a round in the mean, plain ones included; 0 without any."""
    did = rounds_of(samples)
    num_rounds = did.num_drafts + did.num_plain_rounds
    return sum(sample.decode_ns for sample in samples) / num_rounds if num_rounds else 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """What steps take between processes beyond what they take in one.

    hand_over_ns: of a draft phase; draft_stretch, pass_stretch: how many times as long draft steps
    and passes take, all that a step does beside them included.
    """

    hand_over_ns: float
    draft_stretch: float = 1.0
    pass_stretch: float = 1.0

    def on(self, times: StepTimes) -> StepTimes:
        """Return bare times as they are between processes."""
        return replace(
            times,
            hand_over_ns=self.hand_over_ns,
            draft_stretch=self.draft_stretch,
            pass_stretch=self.pass_stretch,
        )


class _MeanRound(NamedTuple):
    """A setting's rounds in the mean: how many have drafts, what drafts and what passes take."""

    draft_share: float
    draft_ns: float
    pass_ns: float


def fit_processes(samples: Samples, arms: Sequence[LiveContender], times: StepTimes) -> Fit:
    """Fit what rounds take between processes to plain decoding and to settings that draft.

        plain step    pass_stretch * V(0, 1)
        round         pass_stretch * V(E, k+1) + hand-over + draft_stretch * draft steps

    The last two by least squares over the settings; from fewer than three the hand-over alone.

    Args:
        samples: by contender.
        arms: contenders; those that draft by a static setting are fitted to.
        times: in one process, bare.
    """
    pass_stretch = live_round_ns(samples[PLAIN_NAME]) / times.pass_ns({0: 1}, 1)
    points: list[tuple[float, float]] = []
    for each in arms:
        if each.arm is None or each.arm.is_off:
            continue
        found = _mean_round(samples[each.name], each.arm, times)
        if found is not None and found.draft_share:
            phase_ns = live_round_ns(samples[each.name]) - pass_stretch * found.pass_ns
            share = found.draft_share
            points.append((found.draft_ns / share, phase_ns / share))
    return Fit(*_fit_line(points), pass_stretch)


def _fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return height and slope of a line, the slope not below 0; of few points it is 1."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if len(set(xs)) < MIN_FITTED:
        return median(y - x for x, y in points) if points else 0.0, 1.0
    line = linear_regression(xs, ys)
    return line.intercept, max(0.0, line.slope)


def _mean_round(samples: Sequence[Sample], arm: Decision, times: StepTimes) -> _MeanRound | None:
    """Return the rounds of a setting, plain and shorter ones included; None without any.

    Drafts that the end of a text cut short count as the mean draft.
    """
    did = rounds_of(samples)
    num_rounds = did.num_drafts + did.num_plain_rounds
    if not num_rounds:
        return None
    draft_share = did.num_drafts / num_rounds
    draft_ns, pass_ns = 0.0, (1.0 - draft_share) * times.pass_ns({0: 1}, 1)
    if did.num_drafts:
        mean_len = did.num_draft_tokens / did.num_drafts
        low, part = int(mean_len), mean_len % 1.0
        for draft_len, share in ((max(1, low), 1.0 - part), (low + 1, part)):
            load, rows = DraftLoad(arm.exit_layer, draft_len), {arm.exit_layer: draft_len + 1}
            draft_ns += draft_share * share * times.draft_phase_ns([load])
            pass_ns += draft_share * share * times.pass_ns(rows, 1)
    return _MeanRound(draft_share, draft_ns, pass_ns)


def _predicted_ns(
    samples: Samples,
    name: str,
    arm: Decision,
    others: Sequence[LiveContender],
    times: StepTimes | None,
) -> float | None:
    """Return a setting's mean round as its replay has it, by what others take between processes."""
    if times is None:
        return None
    found, fit = _mean_round(samples[name], arm, times), fit_processes(samples, others, times)
    if found is None:
        return None
    phase_ns = found.draft_share * fit.hand_over_ns + fit.draft_stretch * found.draft_ns
    return fit.pass_stretch * found.pass_ns + phase_ns


def check_arms(
    samples: Samples,
    arms: Sequence[LiveContender],
    times: StepTimes | None,
    tapes: Mapping[str, Tape],
) -> list[ArmCheck]:
    """Compare every drafting setting with its replay.

    Args:
        samples: by contender.
        arms: contenders; those without a static setting are passed over.
        times: in one process, bare; None: speeds are not compared. A setting's own rounds are not
            among those that its prediction is fitted to.
        tapes: by prompt id, of the same prompts and limits; counts of others are not compared.
    """
    checks = []
    for each in arms:
        if each.arm is None or each.arm.is_off:
            continue
        own, arm = samples[each.name], each.arm
        held = [s for s in own if s.prompt_id in tapes and arm.exit_layer in _exits(tapes, s)]
        others = [other for other in arms if other is not each]
        predicted_ns = _predicted_ns(samples, each.name, arm, others, times)
        num_differing = sum(_differs(s, tapes[s.prompt_id], arm) for s in held)
        checks.append(
            ArmCheck(each.name, live_round_ns(own), predicted_ns, len(held), num_differing)
        )
    return checks


def _exits(tapes: Mapping[str, Tape], sample: Sample) -> set[int]:
    return set(tapes[sample.prompt_id].tracks)


def _differs(sample: Sample, tape: Tape, arm: Decision) -> bool:
    """Whether a session's rounds kept otherwise than those of its replay.

    Drafts are not counted: behind a wrong token a draft may meet a stop token and end there, which
    no tape of the text shows. What is kept does not depend on it.
    """
    replayed = replay(tape, arm.exit_layer, arm.max_draft_len, arm.stop_threshold).summary
    live = rounds_of([sample])
    return replace(live, num_draft_tokens=0) != replace(replayed, num_draft_tokens=0)
