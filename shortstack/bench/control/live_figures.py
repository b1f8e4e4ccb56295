"""What a live comparison adds up to. Pure.

Per prompt and contender the median over repeats counts; speeds of a kind are its tokens over the
sum of these times, first message to last. The best static setting is chosen by the same samples
that it is judged by, which flatters it by what luck gave the luckiest of many. Plain decoding takes
part twice; its second self is compared with it as any other, and no setting to choose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from shared.control.replay.step_times import StepTimes
from shared.speculation.tape import Tape, replay
from shared.speculation.vocabulary import PLAIN_DECISION, Decision
from shortstack.bench.control.fit import Fit, fit_processes
from shortstack.bench.control.live_rounds import LiveRounds, live_rounds, rounds_of
from shortstack.bench.control.slower import share_slower, slowdowns
from shortstack.bench.samples import Sample, kinds_of

PLAIN_NAME, PLAIN_AGAIN = "plain", "plain again"
ALL_KINDS = "all"
NS_PER_S = 1e9
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class LiveContender:
    """A name, and the static setting that it stands for, if it is one."""

    name: str
    arm: Decision | None = None


@dataclass(frozen=True, slots=True)
class LiveKind:
    """One kind of text. over_best: by contender that is no static setting.

    over_plain: by contender, time over plain decoding's, mean of prompts; slower_than_plain: the
        share of these that were slower by > 2 %. Beside the machine's moods, see `slower`.
    """

    kind: str
    tok_s: Mapping[str, float]
    best_static: str
    over_best: Mapping[str, float]
    over_plain: Mapping[str, float]
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
    decoded = {
        each.name: [sample for sample in samples[each.name] if sample.kind in wanted]
        for each in contenders
    }
    times = {contender: _median_ns(own) for contender, own in decoded.items()}
    num_tokens = {s.prompt_id: len(s.token_ids) - s.first_len for s in decoded[PLAIN_NAME]}
    # A text that came with the first message has no time to compare.
    prompts = [p for p in num_tokens if all(own.get(p) for own in times.values())]
    speeds = {
        contender: sum(num_tokens[p] for p in prompts) * NS_PER_S / sum(own[p] for p in prompts)
        for contender, own in times.items()
        if prompts
    }
    slower = {name: _slowdowns(name, decoded) for name in decoded}
    slower = {name: found for name, found in slower.items() if found}
    static = [
        each.name
        for each in contenders
        if each.arm is not None and each.name in speeds and each.name != PLAIN_AGAIN
    ]
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
        {name: fmean(found.values()) for name, found in slower.items()},
        {name: share_slower(found) for name, found in slower.items()},
    )


def _slowdowns(name: str, decoded: Samples) -> dict[str, float]:
    """Return a contender's slowdown by prompt; plain decoding is compared with its other self."""
    own, plain, again = decoded[name], decoded[PLAIN_NAME], decoded.get(PLAIN_AGAIN, ())
    is_plain = name in (PLAIN_NAME, PLAIN_AGAIN)
    both = [plain, again] if again and not is_plain else [plain]
    # Who did not take part in every turn is compared with nobody.
    return slowdowns(own, *both) if len(own) == len(plain) else {}


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


def fit_of(samples: Samples, arms: Sequence[LiveContender], times: StepTimes | None) -> Fit | None:
    """Return what rounds take between processes by these settings; None without times or rounds.

    Args:
        samples: by contender.
        arms: contenders; those that draft by a static setting are fitted to.
        times: in one process.
    """
    plain = live_rounds(PLAIN_DECISION, samples[PLAIN_NAME])
    if times is None or not plain.num_rounds:
        return None
    settings = [live_rounds(each.arm, samples[each.name]) for each in arms if each.arm is not None]
    return fit_processes(plain, settings, times)


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
        times: in one process; None: speeds are not compared. A setting's own rounds are not among
            those that its prediction is fitted to: one that drafts alone is not predicted.
        tapes: by prompt id, of the same prompts and limits; counts of others are not compared.
    """
    checks = []
    for each in arms:
        if each.arm is None or each.arm.is_off:
            continue
        own, arm = live_rounds(each.arm, samples[each.name]), each.arm
        others = [other for other in arms if other is not each]
        is_told = any(other.arm is not None and not other.arm.is_off for other in others)
        fit = fit_of(samples, others, times) if is_told else None
        predicted_ns = _predicted_ns(own, fit, times)
        num_compared, num_differing = _compare_counts(samples[each.name], arm, tapes)
        checks.append(ArmCheck(each.name, own.mean_ns, predicted_ns, num_compared, num_differing))
    return checks


def _predicted_ns(own: LiveRounds, fit: Fit | None, times: StepTimes | None) -> float | None:
    if fit is None or times is None or not own.num_rounds:
        return None
    return own.mean_ns_by(fit.on(times))


def _compare_counts(
    samples: Sequence[Sample], arm: Decision, tapes: Mapping[str, Tape]
) -> tuple[int, int]:
    """Return how many texts have a tape, and of how many the rounds differ from its replay."""
    held = [s for s in samples if s.prompt_id in tapes and arm.exit_layer in _exits(tapes, s)]
    return len(held), sum(_differs(s, tapes[s.prompt_id], arm) for s in held)


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
