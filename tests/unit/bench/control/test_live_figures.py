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
from shortstack.bench.control.fit import Fit
from shortstack.bench.control.live import LivePlan, wishes_of
from shortstack.bench.control.live_figures import (
    LiveContender,
    Samples,
    check_arms,
    fit_of,
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
    pass_ms: float = 0.0,
) -> Sample:
    kind, decode_ns, pass_ns = prompt_id[0], int(ms * MS), int(pass_ms * MS)
    return Sample(Peer.PIPELINE, prompt_id, kind, token_ids, 1, MS, decode_ns, did, pass_ns)


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
    samples = samples_of(
        plain={"a1": [100.0], "b1": [200.0]},
        two={"a1": [50.0], "b1": [250.0]},
        four={"a1": [80.0], "b1": [203.0]},
        goodput={"a1": [49.0], "b1": [206.0]},
    )
    (_, _, every) = kinds_found(samples, CONTENDERS)
    assert every.slower_than_plain == {"plain": 0.0, "E2 d4": 0.5, "E4 d1": 0.0, "goodput": 0.5}
    assert every.over_plain["goodput"] == pytest.approx((0.49 + 1.03) / 2)


def test_plain_decoding_is_compared_with_its_second_self_and_others_with_both() -> None:
    samples = {
        **samples_of(plain={"a1": [100.0]}, two={"a1": [50.0]}, four={"a1": [80.0]}),
        "goodput": [sample("a1", 110.0)],
        "plain again": [sample("a1", 120.0)],
    }
    contenders = [*CONTENDERS, LiveContender("plain again", PLAIN_DECISION)]
    (kind,) = kinds_found(samples, contenders)
    assert kind.over_plain["plain again"] == pytest.approx(1.2)
    assert kind.over_plain["goodput"] == pytest.approx(1.0)
    assert kind.best_static == "E2 d4"


def test_a_setting_that_drafts_alone_is_not_predicted() -> None:
    tape = random_text("a1", 3).tape
    found = live_samples(replay(tape, 2, 4).summary, 50)
    (alone,) = check_arms(found, CONTENDERS[:2], TIMES, {})
    assert alone.predicted_ns is None


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
        "plain again": PLAIN,
    }


ARMS = [Decision(LAYERSKIP, e, k) for e, k in ((2, 1), (2, 4), (4, 1), (4, 6))]
SETTINGS = [LiveContender(arm_name(arm), arm) for arm in ARMS]
TIMES = make_times(overhead_us=0.0)
# No two alike, so that none may stand for another.
FIT = Fit(
    overhead_ns=0.3 * MS,
    hand_over_ns=0.7 * MS,
    draft_stretch=1.4,
    pass_stretch=1.1,
    plain_stretch=1.3,
)


def served_samples(fit: Fit) -> dict[str, list[Sample]]:
    """Return ten rounds of plain decoding and of every setting, where steps take so much longer."""
    between = fit.on(TIMES)
    plain = SpeculationSummary(num_plain_rounds=11)
    pass_ms = 10 * between.pass_ns({0: 1}, 1) / MS
    plain_ms = 10 * between.round_ns(0, 0) / MS
    found = {"plain": [sample("a1", plain_ms, did=plain, pass_ms=pass_ms)]}
    for arm in ARMS:
        # One of the prompt, and two of the text.
        did = SpeculationSummary(num_plain_rounds=1 + 2)
        for _ in range(8):
            did.count(arm.max_draft_len, 1, 2)
        verify_ms = between.pass_ns({arm.exit_layer: arm.max_draft_len + 1}, 1) / MS
        round_ms = between.round_ns(arm.exit_layer, arm.max_draft_len) / MS
        total_ms, passes_ms = 8 * round_ms + 0.2 * plain_ms, 8 * verify_ms + 0.2 * pass_ms
        found[arm_name(arm)] = [sample("a1", total_ms, did=did, pass_ms=passes_ms)]
    return found


@pytest.mark.parametrize("fit", [FIT, replace(FIT, hand_over_ns=0.0), Fit()])
def test_each_part_of_a_round_is_told_by_its_own(fit: Fit) -> None:
    found = served_samples(fit)
    told = fit_of(found, [LiveContender("plain", PLAIN_DECISION), *SETTINGS], TIMES)
    assert told is not None
    assert told.overhead_ns == pytest.approx(fit.overhead_ns, abs=50)
    assert told.hand_over_ns == pytest.approx(fit.hand_over_ns, abs=50)
    assert told.draft_stretch == pytest.approx(fit.draft_stretch, rel=1e-4)
    assert told.pass_stretch == pytest.approx(fit.pass_stretch, rel=1e-4)
    assert told.plain_stretch == pytest.approx(fit.plain_stretch, rel=1e-4)
    assert all(
        check.live_ns == pytest.approx(check.predicted_ns, rel=1e-4)
        for check in check_arms(found, SETTINGS, TIMES, {})
    )


def test_a_hand_over_takes_no_negative_time() -> None:
    told = fit_of(served_samples(replace(FIT, hand_over_ns=-0.1 * MS)), SETTINGS, TIMES)
    assert told is not None
    assert told.hand_over_ns == 0.0
    assert 1.0 < told.draft_stretch < FIT.draft_stretch


def test_clocks_that_disagree_on_short_texts_tell_no_negative_times() -> None:
    found = {
        name: [replace(own, decode_ns=own.decode_ns // 2) for own in samples]
        for name, samples in served_samples(FIT).items()
    }
    told = fit_of(found, SETTINGS, TIMES)
    assert told is not None
    assert told.overhead_ns == 0.0
    assert told.plain_stretch == pytest.approx(FIT.plain_stretch)


def test_few_settings_tell_the_hand_over_alone() -> None:
    fit = replace(FIT, draft_stretch=1.0)
    told = fit_of(served_samples(fit), SETTINGS[:1], TIMES)
    assert told is not None
    assert told.draft_stretch == 1.0
    assert told.hand_over_ns == pytest.approx(0.7 * MS, abs=50)


def test_a_setting_is_predicted_by_the_others_not_by_itself() -> None:
    found = served_samples(FIT)
    name = SETTINGS[1].name
    expected = {check.name: check.predicted_ns for check in check_arms(found, SETTINGS, TIMES, {})}
    (own,) = found[name]
    found[name] = [replace(own, decode_ns=2 * own.decode_ns)]
    checks = {check.name: check for check in check_arms(found, SETTINGS, TIMES, {})}
    assert checks[name].predicted_ns == pytest.approx(expected[name])
    assert checks[SETTINGS[0].name].predicted_ns != pytest.approx(expected[SETTINGS[0].name])


def test_texts_without_a_plain_step_predict_nothing() -> None:
    found = served_samples(FIT)
    found["plain"] = [sample("a1", 0.0, did=SpeculationSummary(num_plain_rounds=1))]
    assert fit_of(found, SETTINGS, TIMES) is None
    assert all(check.predicted_ns is None for check in check_arms(found, SETTINGS, TIMES, {}))
