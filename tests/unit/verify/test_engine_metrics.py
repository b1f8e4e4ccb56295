"""What the engine counts equals what its sessions were told, preemptions and replays included."""

import pytest

from services.verify.engine_metrics import EngineMetrics
from services.verify.session import Finished
from shared.control.steps import RoundOutcome
from shared.model.layer_stack import LayerStack
from shared.speculation.vocabulary import (
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    FinishReason,
    SpeculationSummary,
)
from tests.engine_harness import EngineHarness, FusedDrafter, HarnessOptions, Recorded, make_request
from tests.polling import poll_until
from tests.unit.verify.builders import make_session

WISHED = Decision(LAYERSKIP, 2, 4)


def summed(ended: list[Recorded]) -> SpeculationSummary:
    summary = SpeculationSummary()
    for each in ended:
        summary.add(each.session.summary)
    return summary


def test_sums_are_those_of_the_sessions(stack: LayerStack) -> None:
    with EngineHarness(stack, FusedDrafter) as cell:
        requests = [
            make_request([5, 6, 7 + index], 20, session_id=f"s{index}", wished=WISHED)
            for index in range(3)
        ]
        plain = make_request([8, 9], 10, session_id="plain")
        replayed = make_request([5, 6, 9], 20, session_id="replayed", num_emitted=2, wished=WISHED)
        ended = cell.run(*requests, plain, replayed)
    metrics, summary = cell.engine.steps.metrics, summed(ended)
    rounds = metrics.rounds
    assert rounds.total(lambda kind: kind.num_drafted) == summary.num_draft_tokens > 0
    assert rounds.total(lambda kind: kind.num_accepted) == summary.num_accepted_tokens
    assert rounds.total(lambda kind: kind.num_drafted > 0) == summary.num_drafts
    num_tokens = rounds.total(lambda kind: kind.num_emitted) + metrics.num_prompt_ends
    assert num_tokens == sum(len(each.token_ids) for each in ended) == metrics.generation_lens.total
    assert metrics.num_prompt_ends == 5
    # The replayed one had its first token, and its prompt counted, where it began.
    assert metrics.num_prompt_tokens == 3 * 3 + 2
    assert metrics.first_token_s.count == 4
    assert metrics.finished == {"length": 5, "stop": 0, "abort": 0}
    assert metrics.session_s.count == metrics.queue_s.count == metrics.decode_s.count == 5
    num_rounds = rounds.total(lambda _: 1)
    assert metrics.inter_token_s.count == metrics.round_s.count == num_rounds
    assert sum(metrics.decisions.values()) == metrics.pass_sessions.total == num_rounds
    assert metrics.draft_s.count > 0
    assert metrics.verify_s.count == cell.runner.num_passes


def test_a_preempted_session_counts_once(stack: LayerStack) -> None:
    # Two sessions that cannot both grow to their ends.
    options = HarnessOptions(num_pages=8, max_sessions=2)
    with EngineHarness(stack, FusedDrafter, options) as cell:
        ended = cell.run(
            *(make_request([5, 6], 20, session_id=f"s{i}", wished=WISHED) for i in range(2))
        )
    metrics = cell.engine.steps.metrics
    assert cell.roster.num_preemptions > 0
    assert metrics.first_token_s.count == metrics.session_s.count == 2
    assert metrics.num_prompt_tokens == 4
    assert metrics.num_prompt_ends == 2 + cell.roster.num_preemptions
    num_tokens = metrics.rounds.total(lambda kind: kind.num_emitted) + metrics.num_prompt_ends
    assert num_tokens == sum(len(each.token_ids) for each in ended)


async def test_a_cancelled_session_is_aborted(stack: LayerStack) -> None:
    with EngineHarness(stack, FusedDrafter) as cell:
        running = cell.open(make_request([5, 6], 500, wished=WISHED), lambda: 1 << 30)
        await poll_until(lambda: running.was_started)
        cell.cancel(running)
        await poll_until(lambda: not len(cell.roster))
    assert cell.engine.steps.metrics.finished["abort"] == 1


def test_times_are_those_of_the_session() -> None:
    metrics, session = EngineMetrics(), make_session(arrived_ns=1_000_000_000, num_generated=3)
    session.first_token_ns = 1_500_000_000
    session.timings.queue_ns, session.timings.prefill_ns = 200_000_000, 300_000_000
    session.timings.decode_ns = 2_000_000_000
    session.trace_id = "a" * 32
    metrics.note_prompt_end(session, is_first=True)
    metrics.note_end(session, FinishReason.STOP)
    assert metrics.first_token_s.total == pytest.approx(0.5)
    assert metrics.queue_s.total == pytest.approx(0.2)
    assert metrics.prefill_s.total == pytest.approx(0.3)
    assert metrics.decode_s.total == pytest.approx(2.0)
    assert metrics.session_s.total == pytest.approx(2.5)
    traced = [bucket[2].labels for bucket in metrics.session_s.buckets() if len(bucket) == 3]
    assert traced == [{"trace_id": "a" * 32}]


def test_a_session_that_never_emitted_has_no_times() -> None:
    metrics, session = EngineMetrics(), make_session()
    metrics.note_end(session, FinishReason.CANCELLED)
    assert metrics.finished["abort"] == 1
    assert metrics.session_s.count == metrics.prompt_lens.count == 0


def test_switches_and_arms_are_counted_by_session() -> None:
    metrics, session = EngineMetrics(), make_session()
    arms = [WISHED, WISHED, PLAIN_DECISION, WISHED.at_exit(3), WISHED.at_exit(2), WISHED]
    for arm in arms:
        outcome = RoundOutcome(session.session_id, arm, 0, 0, 1)
        metrics.note_round(session, outcome, 1_000_000, is_alarm=arm.is_off)
    assert metrics.num_mode_switches == 2
    assert metrics.num_arm_changes == 1
    assert metrics.num_alarms == 1
    metrics.note_end(session, FinishReason.STOP)
    metrics.note_round(session, RoundOutcome("s", PLAIN_DECISION, 0, 0, 1), 1, is_alarm=False)
    assert metrics.num_mode_switches == 2


def test_what_a_plan_expected_is_compared_with_what_came() -> None:
    metrics = EngineMetrics()
    drafted = RoundOutcome("s", WISHED, 4, 3, 4)
    metrics.note_step([drafted, drafted], 1_000_000, 50_000, expected_per_ns=12e-6)
    metrics.note_step([RoundOutcome("s", WISHED, 0, 0, 1)], 1_000_000, 50_000, None)
    assert metrics.drafting_forecast.total == pytest.approx(1.5)
    assert metrics.plain_forecast.count == 0
    assert metrics.decide_us.total == pytest.approx(100.0)
    assert metrics.round_s.count == 3


def test_the_hand_over_is_what_was_waited_beyond_drafting() -> None:
    from shared.ids import SessionId
    from shared.speculation.vocabulary import Draft

    metrics = EngineMetrics()
    draft = Draft(SessionId("s"), 0, (), (), draft_ns=2_000_000)
    metrics.note_drafts({"s": draft, "t": draft}, 2_300_000)
    # Made while others were verified.
    metrics.note_drafts({"s": draft}, 100_000)
    assert metrics.draft_s.count == 2
    assert (metrics.hand_over_s.count, metrics.hand_over_s.total) == (1, pytest.approx(0.0003))


def test_an_end_that_is_told_says_what_was_counted(stack: LayerStack) -> None:
    with EngineHarness(stack, FusedDrafter) as cell:
        (ended,) = cell.run(make_request([5, 6, 7], 12, wished=WISHED))
    finished = ended.finished
    assert isinstance(finished, Finished)
    metrics = cell.engine.steps.metrics
    assert metrics.decode_s.total == pytest.approx(finished.timings.decode_ns / 1e9)
    assert metrics.prefill_s.total == pytest.approx(finished.timings.prefill_ns / 1e9)
