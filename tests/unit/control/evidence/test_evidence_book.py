"""All sessions of a cell: what they leave to others, what a store overrules, when to shadow."""

from random import Random

import pytest

from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.local_prior import MAX_POSITIONS, LocalPrior
from shared.control.evidence.prior import NO_PRIOR_RATE, PlaceTotals, Prior
from shared.control.evidence.sampling_class import sampling_class_of
from shared.speculation.vocabulary import SamplingParams
from tests.unit.control.evidence.tapes import plain_observation

EXITS = (2, 4)


def play(book: EvidenceBook, key: str, rate: float, num_positions: int, seed: int = 0) -> None:
    random = Random(seed)
    for _ in range(num_positions):
        bits = {exit_layer: [random.random() < rate] for exit_layer in EXITS}
        book.note(key, plain_observation(bits), 4)


def first_rate(book: EvidenceBook, key: str) -> float:
    return book.survival(key, 4).kept[0]


def test_a_first_session_begins_with_a_guess() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy")
    assert first_rate(book, "a") == pytest.approx(NO_PRIOR_RATE)
    assert "a" in book and len(book) == 1


def test_a_session_begins_with_what_others_of_its_class_showed() -> None:
    book = EvidenceBook(EXITS)
    for index in range(8):
        book.open(str(index), "greedy")
        play(book, str(index), 0.85, 200, seed=index)
        book.forget(str(index))
    book.open("next", "greedy")
    book.open("warm", "warm")
    assert first_rate(book, "next") == pytest.approx(0.85, abs=0.06)
    assert first_rate(book, "warm") == pytest.approx(NO_PRIOR_RATE)
    assert len(book) == 2


def test_a_cell_learns_while_sessions_run_and_counts_nothing_twice() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "cool")
    play(book, "a", 1.1, 63)
    assert not book.prior("cool").is_known
    play(book, "a", 1.1, 1)
    learned = book.prior("cool")
    # 64 matches in a row are 7 rounds of 8 with a bonus position, and one place more.
    assert learned.rates_of(4)[0] == pytest.approx((8 * NO_PRIOR_RATE + 8) / (8 + 8))
    book.forget("a")
    assert book.prior("cool") == learned
    assert book.prior("cool").weight == 16.0


def test_a_session_that_was_never_read_teaches_nothing() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy")
    for _ in range(200):
        book.note("a", plain_observation({4: [None]}), None)
    book.forget("a")
    assert not book.prior("greedy").is_known


def test_a_prior_of_the_store_replaces_the_cells_own() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy")
    play(book, "a", 0.9, 200)
    book.forget("a")
    book.set_prior("greedy", Prior({4: (0.3,) * 8}, 32.0))
    book.open("b", "greedy")
    assert first_rate(book, "b") == pytest.approx(0.3)
    book.open("c", "greedy", prior=Prior({4: (0.7,) * 8}, 48.0, is_task=True))
    assert first_rate(book, "c") == pytest.approx(0.7)
    assert book.session("c").prior.is_task


def test_methods_do_not_share_what_they_learned() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy", method="kangaroo")
    play(book, "a", 0.9, 200)
    assert book.prior("greedy", "kangaroo").is_known
    assert not book.prior("greedy").is_known


def test_opening_again_changes_nothing() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy")
    play(book, "a", 0.9, 30)
    rate = first_rate(book, "a")
    book.open("a", "greedy", prior=Prior({4: (0.1,) * 8}, 48.0))
    assert first_rate(book, "a") == rate


def test_what_comes_late_is_adopted() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy")
    play(book, "a", 0.9, 60)
    state = book.session("a").save()
    book.open("b", "greedy")
    book.adopt("b", Prior({4: (0.2,) * 8}, 32.0))
    assert first_rate(book, "b") == pytest.approx(0.2)
    book.adopt("b", carried=state)
    assert first_rate(book, "b") > 0.3


def test_a_corrupt_state_leaves_the_session_closed() -> None:
    book = EvidenceBook(EXITS)
    with pytest.raises(ValueError, match="start afresh"):
        book.open("a", "greedy", carried=b"?")
    assert "a" not in book
    book.open("a", "greedy")
    assert first_rate(book, "a") == pytest.approx(NO_PRIOR_RATE)


def test_forgetting_an_unknown_session_is_fine_and_using_one_is_not() -> None:
    book = EvidenceBook(EXITS)
    book.forget("a")
    with pytest.raises(KeyError):
        book.survival("a", 4)


def test_unknown_sampling_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="hot"):
        EvidenceBook(EXITS).open("a", "hot")


@pytest.mark.parametrize(
    ("temperature", "name"), [(0.0, "greedy"), (0.3, "cool"), (0.7, "cool"), (0.71, "warm")]
)
def test_sampling_classes_go_by_temperature(temperature: float, name: str) -> None:
    assert sampling_class_of(SamplingParams(temperature=temperature)) == name


def test_what_a_cell_learned_long_ago_fades() -> None:
    local = LocalPrior()
    for matched in (1.0, 0.0):
        for _ in range(4):
            totals = PlaceTotals(num_positions=MAX_POSITIONS // 2 + 1, num_sessions=1)
            totals.open_row(4)
            totals.reached[4][0] = 1000.0
            totals.matched[4][0] = 1000.0 * matched
            local.learn(totals)
        rate = local.prior.rates_of(4)[0]
        assert rate == pytest.approx(matched, abs=0.2)


# --- shadow -------------------------------------------------------------------------------------


def note_rounds(book: EvidenceBook, key: str, bits: list[bool]) -> list[bool]:
    """Play rounds of one position; return which were shadowed."""
    plan = []
    for bit in bits:
        plan.append(book.wants_shadow(key))
        book.note(key, plain_observation({4: [bit]}), 4)
    return plan


def test_a_session_is_shadowed_first_and_after_an_alarm() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy", prior=Prior({4: (0.9,) * 8}, 32.0))
    plan = note_rounds(book, "a", [True] * 100)
    assert plan == [True] * 16 + [False] * 84
    plan = note_rounds(book, "a", [False] * 40)
    assert book.session("a").num_alarms == 1
    assert sum(plan) == 16 and not plan[0]


def test_other_outcomes_of_the_same_rounds_are_shadowed_alike() -> None:
    random = Random(12)
    plans = []
    for rate in (0.2, 0.5, 0.9):
        book = EvidenceBook(EXITS)
        book.open("a", "greedy")
        book.note_shadow_cost(400.0, 4000.0)
        plan = []
        for _ in range(2000):
            plan.append(book.wants_shadow("a"))
            bits = {exit_layer: [random.random() < rate] * 2 for exit_layer in EXITS}
            book.note("a", plain_observation(bits), None)
        plans.append(plan)
        assert book.shadow_share <= 0.01
    assert plans[0] == plans[1] == plans[2]
    assert sum(plans[0]) > 40


def test_methods_that_are_no_read_outs_are_never_shadowed() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy", exits=(2,), method="kangaroo")
    assert not book.wants_shadow("a")


def test_under_pressure_no_session_is_shadowed() -> None:
    book = EvidenceBook(EXITS)
    book.open("a", "greedy")
    assert not book.wants_shadow("a", is_pressed=True)
    assert book.wants_shadow("a")
