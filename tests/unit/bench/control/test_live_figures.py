"""What samples of a live comparison add up to."""

from dataclasses import replace
from pathlib import Path

import pytest

from shared.speculation.tape import replay
from shared.speculation.vocabulary import (
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    SpeculationSummary,
)
from shortstack.bench.control.live import LivePlan, wishes_of
from shortstack.bench.control.live_figures import (
    Fit,
    LiveContender,
    Samples,
    check_arms,
    fit_processes,
    kinds_found,
    num_mismatches,
)
from shortstack.bench.control.replay_report import arm_name
from shortstack.bench.samples import Peer, Sample
from shortstack.request import PLAIN, Speculation, pinned
from tests.unit.control.replay.builders import make_times, random_text

MS = 1_000_000
ARM = Decision(LAYERSKIP, 2, 4)
CONTENDERS = [
    LiveContender("plain", PLAIN_DECISION),
    LiveContender("E2 d4", ARM),
    LiveContender("E4 d1", Decision(LAYERSKIP, 4, 1)),
    LiveContender("goodput"),
]


def sample(
    prompt_id: str,
    ms: float,
    *,
    token_ids: tuple[int, ...] = tuple(range(11)),
    did: SpeculationSummary | None = None,
) -> Sample:
    kind = prompt_id[0]
    return Sample(Peer.PIPELINE, prompt_id, kind, token_ids, 1, MS, int(ms * MS), did)


def samples_of(**times_ms: dict[str, list[float]]) -> Samples:
    """Return samples from milliseconds by contender and prompt."""
    names = {"plain": "plain", "two": "E2 d4", "four": "E4 d1", "goodput": "goodput"}
    return {
        names[name]: [sample(p, ms) for p, values in own.items() for ms in values]
        for name, own in times_ms.items()
    }


FOUND = samples_of(
    plain={"a1": [100.0, 100.0, 400.0], "b1": [200.0]},
    two={"a1": [50.0], "b1": [250.0]},
    four={"a1": [80.0], "b1": [160.0]},
    goodput={"a1": [49.0, 52.0, 51.0], "b1": [206.0]},
)


def test_the_median_over_repeats_counts_and_the_best_setting_is_that_of_the_kind() -> None:
    kinds = {each.kind: each for each in kinds_found(FOUND, CONTENDERS)}
    assert list(kinds) == ["a", "b", "all"]
    assert kinds["a"].tok_s["plain"] == pytest.approx(100.0)
    assert [kinds[kind].best_static for kind in kinds] == ["E2 d4", "E4 d1", "E4 d1"]
    assert kinds["a"].over_best["goodput"] == pytest.approx(50 / 51)
    assert kinds["b"].over_best["goodput"] == pytest.approx(160 / 206)
    assert kinds["all"].over_best["goodput"] == pytest.approx(240 / 257)


def test_slower_than_plain_counts_from_two_percent_on() -> None:
    (_, _, every) = kinds_found(FOUND, CONTENDERS)
    assert every.slower_than_plain == {"plain": 0.0, "E2 d4": 0.5, "E4 d1": 0.0, "goodput": 0.5}


def test_a_text_that_differs_from_plain_is_counted() -> None:
    changed = {
        "plain": [sample("a1", 5)],
        "goodput": [sample("a1", 5), sample("a1", 5, token_ids=(1, 2))],
    }
    assert num_mismatches(FOUND) == 0
    assert num_mismatches(changed) == 1


def live_samples(summary: SpeculationSummary, ms: float) -> Samples:
    """Return a session of a setting with its prefill counted, and one of plain decoding."""
    did = SpeculationSummary(num_plain_rounds=1)
    did.add(summary)
    plain = SpeculationSummary(num_plain_rounds=11)
    return {
        "plain": [sample("a1", 12.0, did=plain)],
        "E2 d4": [sample("a1", ms, did=did)],
        "E4 d1": [],
        "goodput": [],
    }


def test_counts_are_compared_with_the_replay_of_the_same_prompt() -> None:
    tape = random_text("a1", 3).tape
    summary = replay(tape, 2, 4).summary
    arms = CONTENDERS[:2]
    (same,) = check_arms(live_samples(summary, 50), arms, None, {"a1": tape})
    assert (same.num_compared, same.num_differing, same.predicted_ns) == (1, 0, None)
    # A draft that met a stop token behind its first wrong one.
    summary.num_draft_tokens -= 1
    (shorter,) = check_arms(live_samples(summary, 50), arms, None, {"a1": tape})
    assert shorter.num_differing == 0
    summary.count(3, 1, 2)
    (other,) = check_arms(live_samples(summary, 50), arms, None, {"a1": tape})
    assert other.num_differing == 1
    (unknown,) = check_arms(live_samples(summary, 50), arms, None, {})
    assert unknown.num_compared == 0


def test_what_processes_take_is_told_from_what_steps_take() -> None:
    times = make_times(overhead_us=0.0)
    summary = SpeculationSummary()
    for _ in range(8):
        summary.count(4, 2, 3)
    ms = 8 * (times.round_ns(2, 4) / MS + 0.3 + 0.5)
    found = live_samples(summary, ms)
    fit = fit_processes(found, CONTENDERS[:2], times)
    assert fit.pass_stretch == pytest.approx(1.2 * MS / times.round_ns(0, 0))
    # From one setting the hand-over alone is told, beside the one that the times have.
    longer_ns = (fit.pass_stretch - 1.0) * times.pass_ns({2: 5}, 1)
    assert fit.hand_over_ns == pytest.approx(0.8 * MS - longer_ns)
    assert fit.draft_stretch == 1.0


def test_settings_are_pinned_and_goodput_is_what_the_server_does_on_its_own() -> None:
    plan = LivePlan(
        model_dir=Path("m"),
        prompts=[],
        arms=[ARM],
        policies=["goodput", "del"],
        max_new_tokens=8,
        repeats=1,
        num_warm_up_tokens=0,
    )
    wishes = {each.name: wishes_of(each) for each in plan.contenders()}
    assert wishes == {
        "plain": PLAIN,
        "E2 d4": pinned(2, 4),
        "goodput": Speculation(),
        "del": Speculation(policy="del"),
    }


ARMS = [Decision(LAYERSKIP, e, k) for e, k in ((2, 1), (2, 4), (4, 1), (4, 6))]
STEP_TIMES = make_times(overhead_us=0.0)


def served_samples(hand_over_ms: float, draft_stretch: float, pass_stretch: float) -> Samples:
    """Return ten rounds of every setting, on a stack where drafting takes so much longer."""
    bare = replace(STEP_TIMES, hand_over_ns=0.0)
    between = Fit(hand_over_ms * MS, draft_stretch, pass_stretch).on(bare)
    plain_ms = between.round_ns(0, 0) / MS
    found = {
        "plain": [sample("a1", 10 * plain_ms, did=SpeculationSummary(num_plain_rounds=11))],
    }
    for arm in ARMS:
        did = SpeculationSummary(num_plain_rounds=1)
        for _ in range(10):
            did.count(arm.max_draft_len, 1, 2)
        round_ms = between.round_ns(arm.exit_layer, arm.max_draft_len) / MS
        found[arm_name(arm)] = [sample("a1", 10 * round_ms, did=did)]
    return found


def test_hand_over_and_stretch_are_told_apart_by_settings_of_different_lengths() -> None:
    arms = [LiveContender(arm_name(arm), arm) for arm in ARMS]
    bare = replace(STEP_TIMES, hand_over_ns=0.0)
    found = served_samples(0.7, 1.4, 1.2)
    fit = fit_processes(found, [LiveContender("plain", PLAIN_DECISION), *arms], bare)
    assert fit.pass_stretch == pytest.approx(1.2)
    assert fit.hand_over_ns == pytest.approx(0.7 * MS)
    assert fit.draft_stretch == pytest.approx(1.4)
    assert all(
        check.live_ns == pytest.approx(check.predicted_ns)
        for check in check_arms(found, arms, bare, {})
    )


def test_a_setting_is_predicted_by_the_others_not_by_itself() -> None:
    arms = [LiveContender(arm_name(arm), arm) for arm in ARMS]
    bare = replace(STEP_TIMES, hand_over_ns=0.0)
    found = dict(served_samples(0.7, 1.4, 1.2))
    name = arms[1].name
    expected = {check.name: check.predicted_ns for check in check_arms(found, arms, bare, {})}
    (own,) = found[name]
    found[name] = [replace(own, decode_ns=2 * own.decode_ns)]
    checks = {check.name: check for check in check_arms(found, arms, bare, {})}
    assert checks[name].predicted_ns == pytest.approx(expected[name])
    assert checks[arms[0].name].predicted_ns != pytest.approx(expected[arms[0].name])


def test_what_a_step_does_beside_its_pass_may_be_hidden_behind_drafts() -> None:
    arms = [LiveContender(arm_name(arm), arm) for arm in ARMS]
    bare = replace(STEP_TIMES, hand_over_ns=0.0)
    fit = fit_processes(served_samples(-0.05, 1.4, 1.2), arms, bare)
    assert fit.hand_over_ns == pytest.approx(-0.05 * MS, abs=100)
    assert fit.draft_stretch == pytest.approx(1.4)
