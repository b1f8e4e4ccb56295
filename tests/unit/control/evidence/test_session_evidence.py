"""One session's evidence: true to the tape however rounds cut it; fading belief; saved state."""

from itertools import pairwise
from random import Random
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.control.evidence.observation import Observation, Read
from shared.control.evidence.prior import NO_PRIOR_RATE, Prior
from shared.control.evidence.session_evidence import (
    RECENT_POSITIONS,
    REFRESH_POSITIONS,
    SessionEvidence,
)
from shared.control.evidence.virtual_rounds import MEMORY, VirtualRounds
from tests.unit.control.evidence.tapes import (
    Arm,
    observations,
    plain_observation,
    random_text,
    round_at,
)

EXITS = (2, 3, 4, 6)
RATES = {2: 0.35, 3: 0.55, 4: 0.75, 6: 0.9}
LENGTHS = (0, 1, 2, 3, 4, 6, 8)


def evidence_of(exits: tuple[int, ...] = EXITS, prior: Prior | None = None) -> SessionEvidence:
    return SessionEvidence(exits, prior or Prior.none(exits))


def believing(rate: float, weight: float = 32.0) -> Prior:
    return Prior({exit_layer: (rate,) * 8 for exit_layer in EXITS}, weight)


# --- what is counted ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_with_full_shadow_counts_are_those_of_the_tape_whatever_was_drafted(
    seed: int, data: st.DataObject
) -> None:
    random = Random(seed)
    text = random_text(random, RATES, 120)
    arms = st.builds(
        Arm, st.sampled_from(EXITS), st.sampled_from(LENGTHS), st.sampled_from((0.0, 0.6, 0.99))
    )
    drawn = data.draw(st.lists(arms, min_size=1, max_size=12))
    evidence = evidence_of()
    for observation in observations(text, lambda: random.choice(drawn)):
        evidence.note(observation, None)
    whole = VirtualRounds(EXITS)
    whole.note(plain_observation({e: list(text.matches[e]) for e in EXITS}))
    assert evidence.totals.reached == whole.totals.reached
    assert evidence.totals.matched == whole.totals.matched
    for exit_layer in EXITS:
        assert [m for run in evidence.tape.runs(exit_layer) for m in run.matches] == text.matches[
            exit_layer
        ]


def test_the_exit_that_drafts_is_counted_whole_whatever_the_threshold() -> None:
    text = random_text(Random(4), RATES, 200)
    counts = []
    for stop_threshold in (0.0, 0.6, 0.99):
        evidence = evidence_of()
        arm = Arm(4, 6, stop_threshold, is_full=False)
        for observation in observations(text, lambda arm=arm: arm):
            evidence.note(observation, None)
        counts.append((evidence.totals.reached[4], evidence.totals.matched[4]))
        assert sum(evidence.totals.reached[2]) == 0
        assert evidence.totals.num_positions == 200
    assert counts[0] == counts[1] == counts[2]


def test_partial_reads_under_random_arms_estimate_the_rates_of_the_text() -> None:
    random = Random(9)
    reached, matched = dict.fromkeys(EXITS, 0.0), dict.fromkeys(EXITS, 0.0)
    for _ in range(60):
        text = random_text(random, RATES, 400)
        evidence = evidence_of()

        def next_arm() -> Arm:
            return Arm(
                random.choice(EXITS),
                random.choice(LENGTHS),
                random.choice((0.0, 0.7)),
                is_full=random.random() < 0.1,
            )

        for observation in observations(text, next_arm):
            evidence.note(observation, None)
        for exit_layer in EXITS:
            reached[exit_layer] += evidence.totals.reached[exit_layer][0]
            matched[exit_layer] += evidence.totals.matched[exit_layer][0]
    for exit_layer, rate in RATES.items():
        assert reached[exit_layer] > 1500
        assert matched[exit_layer] / reached[exit_layer] == pytest.approx(rate, abs=0.03)


def test_an_exit_that_is_right_behind_a_wrong_draft_gains_no_count() -> None:
    text = random_text(Random(1), {2: 1.1, 4: 1.1}, 10)
    text.matches[4][1] = False
    evidence = evidence_of((2, 4))
    evidence.note(round_at(text, 0, Arm(4, 5)), 4)
    assert evidence.num_positions == 2
    assert evidence.totals.reached[4][:3] == [1, 1, 0]
    assert evidence.totals.reached[2][:3] == [1, 1, 0]


def test_a_draft_of_one_kept_whole_gives_two_known_positions() -> None:
    text = random_text(Random(1), {4: 1.1}, 10)
    evidence = evidence_of((4,))
    evidence.note(round_at(text, 0, Arm(4, 1, is_full=False)), 4)
    assert evidence.totals.reached[4][:3] == [1, 1, 0]
    assert evidence.tape.recent(4, 24) == (2, 2)


def test_nothing_behind_the_end_of_a_text_counts() -> None:
    text = random_text(Random(1), {2: 1.1, 4: 1.1}, 3)
    evidence = evidence_of((2, 4))
    evidence.note(round_at(text, 0, Arm(4, 8)), 4)
    assert evidence.num_positions == 3
    assert evidence.totals.reached[2] == [1, 1, 1, 0, 0, 0, 0, 0]


def test_a_method_without_closing_rows_is_counted_from_its_own_rounds() -> None:
    random = Random(6)
    evidence = evidence_of((1,))
    for _ in range(2000):
        bits: list[bool | None] = []
        while len(bits) < 3 and (not bits or bits[-1]):
            bits.append(random.random() < 0.7)
        evidence.note(plain_observation({1: bits if not bits[-1] else [*bits, None]}), 1)
    totals = evidence.totals
    assert totals.reached[1][3:] == [0] * 5
    for reached, matched in zip(totals.reached[1][:3], totals.matched[1][:3], strict=True):
        assert matched / reached == pytest.approx(0.7, abs=0.04)


# --- what is concluded --------------------------------------------------------------------------


def test_no_counts_give_belief() -> None:
    survival = evidence_of(prior=believing(0.9)).survival(4, 4)
    assert survival.kept == pytest.approx((0.9, 0.81, 0.729, 0.6561))


def test_a_wrong_belief_is_overcome() -> None:
    first = []
    for seed in range(50):
        random = Random(seed)
        evidence = evidence_of(prior=believing(0.9, 48.0))
        for _ in range(400):
            evidence.note(plain_observation({4: [random.random() < 0.3]}), None)
        survival = evidence.survival(4)
        assert all(a >= b for a, b in pairwise((1.0, *survival.kept)))
        first.append(survival.kept[0])
    assert sum(first) / 50 == pytest.approx(0.3, abs=0.03)


def test_belief_fades_with_positions_even_of_exits_that_are_not_read() -> None:
    evidence = evidence_of(prior=believing(0.9, 32.0))
    early = evidence.survival(2).errors[0]
    for _ in range(300):
        evidence.note(plain_observation({4: [1]}), None)
    late = evidence.survival(2)
    assert late.kept[0] == pytest.approx(0.9)
    assert late.errors[0] > early


def test_survival_is_the_same_until_the_next_round() -> None:
    evidence = evidence_of()
    assert evidence.survival(4) is evidence.survival(4)
    before = evidence.survival(4)
    evidence.note(plain_observation({4: [1, 1, 1]}), None)
    assert evidence.survival(4).kept[0] > before.kept[0]
    assert evidence.survival(4, 3).kept == evidence.survival(4).kept[:3]
    assert len(evidence.survival(4, 12).kept) == 12


def test_an_exit_that_is_not_among_the_sessions_own_is_known_once_it_is_read() -> None:
    evidence = evidence_of((4,))
    assert evidence.survival(7).kept[0] == pytest.approx(NO_PRIOR_RATE)
    for _ in range(50):
        evidence.note(plain_observation({7: [1]}), 7)
    assert evidence.survival(7).kept[0] > 0.9


def test_an_alarm_lets_the_new_text_count() -> None:
    random = Random(8)
    alarmed, deaf = evidence_of(prior=believing(0.95)), evidence_of(prior=believing(0.95))
    for _ in range(300):
        assert not alarmed.note(plain_observation({4: [1]}), 4)
        deaf.note(plain_observation({4: [1]}), None)
    before = alarmed.survival(4).kept[0]
    for _ in range(40):
        observation = plain_observation({4: [random.random() < 0.3]})
        if alarmed.note(observation, 4):
            assert alarmed.survival(4).kept[0] < before - 0.1
        deaf.note(observation, None)
    assert (alarmed.num_alarms, deaf.num_alarms) == (1, 0)
    assert alarmed.survival(4).kept[0] == pytest.approx(0.35, abs=0.15)
    assert deaf.survival(4).kept[0] > alarmed.survival(4).kept[0] + 0.05


# --- what is told and carried on ----------------------------------------------------------------


def test_whole_counts_are_told_once() -> None:
    evidence = evidence_of((4,))
    evidence.note(plain_observation({4: [1, 0]}), 4)
    assert evidence.totals_since_flush().to_pairs() == {
        "pos": 2,
        "sessions": 1,
        "r:4:1": 1,
        "r:4:2": 1,
        "h:4:1": 1,
    }
    assert evidence.totals_since_flush().to_pairs() == {}
    evidence.note(plain_observation({4: [1]}), 4)
    assert evidence.totals_since_flush().to_pairs() == {"pos": 1, "r:4:1": 1, "h:4:1": 1}


def played(exits: tuple[int, ...], seed: int = 3) -> SessionEvidence:
    random = Random(seed)
    evidence = evidence_of(exits)
    text = random_text(random, {e: RATES.get(e, 0.5) for e in exits}, 150)
    for observation in observations(text, lambda: Arm(exits[0], random.choice(LENGTHS))):
        evidence.note(observation, None)
    return evidence


def test_an_earlier_turn_counts_half() -> None:
    earlier = played(EXITS)
    carried = SessionEvidence(EXITS, Prior.none(EXITS), earlier.save())
    again = SessionEvidence(EXITS, Prior.none(EXITS), carried.save())
    for exit_layer in EXITS:
        full, half, quarter = (
            each._rounds.reached(exit_layer) for each in (earlier, carried, again)
        )
        assert half == pytest.approx([0.5 * count for count in full], rel=1e-6)
        assert quarter == pytest.approx([0.25 * count for count in full], rel=1e-6)
        assert carried.survival(exit_layer).kept[0] != pytest.approx(NO_PRIOR_RATE, abs=0.01)
    assert carried.num_positions == 0
    assert carried.totals_since_flush().to_pairs() == {}


def test_exits_that_a_reader_does_not_have_are_dropped() -> None:
    carried = SessionEvidence((4, 9), Prior.none((4, 9)), played((2, 4)).save())
    assert sum(carried._rounds.reached(4)) > 0
    assert sum(carried._rounds.reached(2)) == sum(carried._rounds.reached(9)) == 0
    assert carried.survival(9).kept[0] == pytest.approx(NO_PRIOR_RATE)


def test_a_state_that_comes_late_counts_as_if_it_had_been_there() -> None:
    state, observation = played(EXITS).save(), plain_observation({4: [1, 1, 0, 1]})
    at_once = SessionEvidence(EXITS, believing(0.8), state)
    late = evidence_of()
    for evidence in (at_once, late):
        evidence.note(observation, 4)
        evidence.survival(4)
    late.adopt(believing(0.8), state)
    for exit_layer in EXITS:
        assert late.survival(exit_layer).kept == pytest.approx(at_once.survival(exit_layer).kept)


def test_the_format_is_the_documented_one() -> None:
    evidence = evidence_of((4, 258))
    evidence.note(plain_observation({4: [1], 258: [0]}), None)
    one, none = [1.0] + [0.0] * 7, [0.0] * 8
    assert evidence.save() == bytes([1, 2, 8, 0, 4, 0, 2, 1]) + pack(
        "<32f", *one, *one, *one, *none
    )


def state(rows: list[float], exits: tuple[int, ...] = (4,), version: int = 1, j: int = 8) -> bytes:
    return pack("<BBBx", version, len(exits), j) + pack(
        f"<{len(exits)}H{len(rows)}f", *exits, *rows
    )


SOUND = [3.0] * 8 + [1.0] * 8


@pytest.mark.parametrize(
    "carried",
    [
        b"",
        b"\x01",
        b"not a state of any kind",
        state(SOUND, version=2),
        state(SOUND[:12], j=6),
        state(SOUND)[:-1],
        state(SOUND) + b"\0",
        state(SOUND * 2, exits=(4, 4)),
        state([1.0] * 8 + [2.0] * 8),
        state([-1.0] * 8 + [-2.0] * 8),
        state([float("nan")] * 16),
        state([float("inf")] * 8 + [1.0] * 8),
        state([60.0] * 8 + [1.0] * 8),
    ],
)
def test_corrupt_and_foreign_states_are_refused(carried: bytes) -> None:
    with pytest.raises(ValueError, match="start afresh"):
        SessionEvidence((4,), Prior.none((4,)), carried)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_either_taken_or_refused(carried: bytes) -> None:
    try:
        evidence = SessionEvidence((4,), Prior.none((4,)), carried)
    except ValueError:
        return
    assert 0.0 < evidence.survival(4).kept[0] < 1.0


def test_a_state_at_the_bound_of_memory_is_taken() -> None:
    evidence = evidence_of((4,))
    for _ in range(3000):
        evidence.note(plain_observation({4: [0]}), None)
    carried = SessionEvidence((4,), Prior.none((4,)), evidence.save())
    assert carried._rounds.reached(4)[0] == pytest.approx(0.5 / (1 - MEMORY), rel=1e-5)


def test_chances_are_told_anew_when_an_exit_was_read() -> None:
    evidence = evidence_of(EXITS)
    told = {exit_layer: evidence.survival(exit_layer, 12) for exit_layer in EXITS}
    assert all(evidence.survival(exit_layer, 12) is told[exit_layer] for exit_layer in EXITS)
    evidence.note(Observation(1, {EXITS[0]: [Read(False, 0.5)]}), None)
    assert evidence.survival(EXITS[0], 12).kept[0] < told[EXITS[0]].kept[0]
    assert evidence.survival(EXITS[1], 12) is told[EXITS[1]]


def test_chances_of_an_exit_that_is_not_read_fade_at_times() -> None:
    evidence = played(EXITS)
    before = evidence.survival(EXITS[1])
    evidence.note(Observation(REFRESH_POSITIONS, {}), None)
    assert evidence.survival(EXITS[1]) != before


def test_an_exit_is_stale_once_the_last_positions_did_not_show_it() -> None:
    evidence = evidence_of(EXITS)
    read, unread = EXITS[:2]
    assert not evidence.is_stale(unread)
    for _ in range(RECENT_POSITIONS):
        evidence.note(Observation(1, {read: [Read(True, 0.5)]}), read)
    assert evidence.is_stale(unread)
    assert not evidence.is_stale(read)
