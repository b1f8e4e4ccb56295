"""DEL: tokens per layer, its sums, its thresholds, and the mistakes not to make."""

from dataclasses import replace
from math import isfinite

import pytest

from shared.control.evidence.observation import Observation, observe
from shared.control.policies.base import PolicyContext
from shared.control.policies.del_policy import (
    DEL,
    DEL_COST,
    DEL_THRESHOLD,
    OMEGA,
    Del,
    DelRule,
    ExitSums,
)
from shared.ids import SessionId, TokenId
from shared.speculation.vocabulary import (
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    Draft,
    ShadowRead,
)
from tests.unit.control.policies.samples import CONTEXT, DEFAULT, NOTHING, observed, reads, take


def policy_with(alphas: dict[int, float], context: PolicyContext = CONTEXT) -> Del:
    """Return DEL behind its first round, with these match rates of 100 positions each."""
    policy = Del(context)
    take(policy, NOTHING)
    for exit_layer, alpha in alphas.items():
        num_matches = round(100 * alpha)
        bits = "1" * num_matches + "0" * (100 - num_matches)
        for start in range(0, 100, 20):
            policy.note_prompt(observed({exit_layer: bits[start : start + 20]}))
    return policy


@pytest.mark.parametrize(
    ("alphas", "exit_layer", "draft_len", "tokens_per_layer"),
    [
        ({4: 0.45, 8: 0.70, 12: 0.80, 16: 0.86}, 8, 2, 0.045625),
        ({8: 0.80}, 8, 3, (1 - 0.8**4) / 0.2 / 56),
        # All match: d + 1 tokens, and no division by 1 - alpha.
        ({16: 1.0}, 16, 17, 18 / (17 * 16 + 32)),
        ({4: 0.0, 8: 0.0}, 4, 0, 1 / 32),
    ],
)
def test_the_choice_is_the_best_number_of_tokens_per_layer(
    alphas: dict[int, float], exit_layer: int, draft_len: int, tokens_per_layer: float
) -> None:
    best = policy_with(alphas).best()
    assert best is not None
    assert best[:2] == (exit_layer, draft_len)
    assert best.tokens_per_cost == pytest.approx(tokens_per_layer, rel=1e-12)


def test_every_draft_length_is_rated() -> None:
    ratings = policy_with({8: 0.80}).ratings(8)
    assert [each.draft_len for each in ratings] == list(range(18))
    assert ratings[0].tokens_per_cost == 1 / 32
    assert ratings[4].tokens_per_cost == pytest.approx(0.052525, rel=1e-12)


@pytest.mark.parametrize(
    ("alphas", "choice"),
    [
        # (1 + .5) / (16 + 32) is exactly 1 / 32: the shorter draft wins.
        ({16: 0.5}, (16, 0)),
        # Off is off at every exit: the lowest wins.
        ({8: 0.0, 12: 0.0}, (8, 0)),
        # The deep exit ties with off at the shallow one.
        ({4: 0.0, 16: 0.5}, (4, 0)),
    ],
)
def test_ties_go_to_the_lowest_exit_then_to_the_shortest_draft(
    alphas: dict[int, float], choice: tuple[int, int]
) -> None:
    best = policy_with(alphas).best()
    assert best is not None
    assert best[:2] == choice


def test_exits_without_observations_are_left_out() -> None:
    best = policy_with({16: 0.1}).best()
    assert best is not None
    assert best.exit_layer == 16


@pytest.mark.parametrize("rule", [DEL, DEL_THRESHOLD], ids=lambda rule: rule.name)
def test_the_first_round_is_one_draft_at_the_lowest_exit(rule: DelRule) -> None:
    policy = Del(CONTEXT, rule)
    first = Decision(LAYERSKIP, 4, 1, 0.0, "cold")
    assert policy.wish(DEFAULT) == first
    policy.note_prompt(observed({16: "1" * 32}))
    assert policy.wish(DEFAULT) == first
    take(policy, observed({16: "11"}))
    assert policy.wish(DEFAULT).exit_layer == 16


def test_a_round_in_which_nothing_was_read_leaves_it_cold() -> None:
    policy = Del(CONTEXT)
    take(policy, NOTHING)
    take(policy, observed({8: "...", 12: ""}))
    assert policy.best() is None
    assert policy.wish(DEFAULT) == Decision(LAYERSKIP, 4, 1, 0.0, "cold")


def test_omega_is_applied_once_per_round_whatever_its_length() -> None:
    sums = ExitSums()
    sums.add(reads("1111", 0.9))
    for _ in range(3):
        sums.fade(OMEGA)
    sums.add(reads("0", 0.3))
    weight = 4 * 0.95**3
    assert sums.alpha == pytest.approx(weight / (weight + 1))

    policy = Del(CONTEXT)
    take(policy, observed({8: "1111"}))
    take(policy, observed({4: "1"}))
    take(policy, observed({4: "11111111"}))
    take(policy, observed({8: "0"}))
    assert policy._sums[8].alpha == sums.alpha


def test_plain_rounds_count_their_one_position() -> None:
    policy = Del(CONTEXT)
    for _ in range(20):
        policy.note(PLAIN_DECISION, 0, 0, observed({4: "0", 8: "1"}))
    best = policy.best()
    assert best is not None
    assert best.exit_layer == 8
    assert best.draft_len == 17


def test_rows_behind_the_first_mismatch_are_not_counted() -> None:
    # Drafts 7 8 9 of exit 8, of which the first is kept; then 5 is recovered. Behind that, exit 16
    # agrees with the draft's wrong prefix for two rows, which must tell nothing.
    draft = Draft(SessionId("s"), 0, tokens(7, 8, 9), (0.9, 0.8, 0.7))
    shadow = [ShadowRead(16, tokens(7, 5, 9, 9), (0.5,) * 4), ShadowRead(8, tokens(9), (0.5,), 3)]
    observation = observe(tokens(7, 5), 8, draft, shadow)
    policy = Del(CONTEXT)
    policy.note(Decision(LAYERSKIP, 8, 3), 3, 1, observation)
    assert policy._sums[8].alpha == 0.5
    assert policy._sums[16].alpha == 1.0
    assert policy._sums[4].alpha is None


def tokens(*ids: int) -> tuple[TokenId, ...]:
    return tuple(map(TokenId, ids))


def test_the_threshold_lies_midway_between_matches_and_mismatches() -> None:
    sums = ExitSums()
    sums.add(reads("1", 0.9))
    assert sums.threshold is None
    sums.add(reads("11", 0.6))
    sums.add(reads("00", 0.2))
    assert sums.threshold == pytest.approx(((0.9 + 1.2) / 3 + 0.2) / 2)


@pytest.mark.parametrize("bits", ["", "1", "0"])
def test_an_undefined_threshold_stops_nothing_and_drafts_no_further_than_planned(
    bits: str,
) -> None:
    policy = Del(CONTEXT)
    take(policy, observed({8: bits * 6}))
    wished = policy.wish(DEFAULT)
    assert wished.stop_threshold == 0.0
    threshold_only = Del(CONTEXT, DEL_THRESHOLD)
    take(threshold_only, observed({8: bits * 6}))
    wished = threshold_only.wish(DEFAULT)
    assert wished.stop_threshold == 0.0
    assert wished.max_draft_len == (17 if bits == "1" else 1)


def test_hard_text_turns_del_off_and_leaves_the_threshold_variant_at_work() -> None:
    hard = observed({4: "0", 8: "0000000001", 12: "0", 16: "0"})
    policy = Del(CONTEXT)
    take(policy, hard)
    assert policy.wish(DEFAULT) == replace(PLAIN_DECISION, reason="unprofitable")
    threshold_only = Del(CONTEXT, DEL_THRESHOLD)
    take(threshold_only, observed({8: "0000000001"}))
    wished = threshold_only.wish(DEFAULT)
    assert (wished.exit_layer, wished.max_draft_len, wished.stop_threshold) == (8, 17, 0.5)


def test_drafts_stop_at_the_planned_length_or_below_the_threshold() -> None:
    policy = policy_with({4: 0.45, 8: 0.70, 12: 0.80, 16: 0.86})
    assert policy.wish(DEFAULT) == Decision(LAYERSKIP, 8, 2, 0.5, "policy")


def test_the_threshold_variant_drafts_eighteen_where_there_is_room() -> None:
    policy = Del(replace(CONTEXT, max_draft_len=64), DEL_THRESHOLD)
    take(policy, observed({8: "1110"}))
    assert policy.wish(DEFAULT).max_draft_len == 18
    short = Del(replace(CONTEXT, max_draft_len=6), DEL_THRESHOLD)
    take(short, observed({8: "1110"}))
    assert short.wish(DEFAULT).max_draft_len == 6


def test_only_the_last_positions_of_the_prompt_count() -> None:
    policy = Del(CONTEXT)
    policy.note_prompt(observed({8: "0" * 100 + "1" * 24 + "0" * 8}))
    assert policy._sums[8].alpha == 0.75


def test_a_prompt_weighs_as_much_as_positions_of_the_round() -> None:
    policy = Del(CONTEXT)
    policy.note_prompt(observed({8: "1111"}))
    policy.note(policy.wish(DEFAULT), 1, 0, observed({8: "0"}))
    assert policy._sums[8].alpha == pytest.approx(4 * OMEGA / (4 * OMEGA + 1))


def test_measured_costs_take_the_place_of_layers() -> None:
    alphas = {4: "1110", 8: "1111111110"}

    def choose(head_ns: float) -> tuple[int, int]:
        def cost_ns(exit_layer: int, draft_len: int) -> float:
            return 32.0 + draft_len * (exit_layer + head_ns)

        policy = Del(replace(CONTEXT, cost_ns=cost_ns), DEL_COST)
        take(policy, observed(alphas))
        best = policy.best()
        assert best is not None
        return best[:2]

    plain = Del(CONTEXT)
    take(plain, observed(alphas))
    by_layers = plain.best()
    assert by_layers is not None
    assert choose(0.0) == by_layers[:2]
    assert choose(8.0)[1] < by_layers.draft_len
    assert choose(40.0)[1] == 0


def test_doubled_costs_change_nothing() -> None:
    choices = []
    for unit in (1.0, 2.0):
        context = replace(CONTEXT, cost_ns=lambda e, k, unit=unit: unit * (40.0 + k * e))
        policy = Del(context, DEL_COST)
        take(policy, observed({8: "11110", 12: "11111"}))
        choices.append(policy.wish(DEFAULT))
    assert choices[0] == choices[1]


@pytest.mark.parametrize("known_layers", [(), (0,)], ids=["nothing", "plain steps only"])
def test_unknown_costs_are_off(known_layers: tuple[int, ...]) -> None:
    def cost_ns(exit_layer: int, draft_len: int) -> float | None:
        return 32.0 if draft_len in known_layers else None

    policy = Del(replace(CONTEXT, cost_ns=cost_ns), DEL_COST)
    take(policy, observed({8: "1111"}))
    assert policy.wish(DEFAULT) == replace(PLAIN_DECISION, reason="no_costs")


def test_an_exit_of_unknown_cost_is_left_out() -> None:
    def cost_ns(exit_layer: int, draft_len: int) -> float | None:
        return None if draft_len and exit_layer == 4 else 32.0 + draft_len * exit_layer

    policy = Del(replace(CONTEXT, cost_ns=cost_ns), DEL_COST)
    take(policy, observed({4: "1111", 8: "1111"}))
    assert policy.wish(DEFAULT).exit_layer == 8


def test_costs_that_are_missing_altogether_are_refused() -> None:
    with pytest.raises(ValueError, match="needs measured costs"):
        Del(CONTEXT, DEL_COST)


def test_sums_stay_sound_after_very_many_rounds() -> None:
    policy = Del(CONTEXT)
    take(policy, observed({8: "1110", 16: "1"}))
    for _ in range(20_000):
        policy.note(PLAIN_DECISION, 0, 0, observed({8: "0"}))
    assert policy._sums[8].alpha == 0.0
    assert policy._sums[8].threshold is None
    assert policy._sums[16].alpha is None
    wished = policy.wish(DEFAULT)
    assert wished.is_off
    assert isfinite(wished.stop_threshold)


def test_observations_of_exits_that_may_not_draft_are_ignored() -> None:
    policy = Del(CONTEXT)
    take(policy, Observation(1, {20: reads("1")}))
    assert policy.best() is None
