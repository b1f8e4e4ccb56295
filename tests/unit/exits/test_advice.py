"""What is said of a model: worth it, not worth it and why, or only for some texts."""

from collections.abc import Mapping, Sequence

from shared.speculation.cost_model import CostTable, in_layer_units
from shared.speculation.tape import ExitTrack, Tape
from shortstack.exits.advice import Advice, advise
from tests.unit.exits.builders import (
    BAD,
    COSTS,
    EXITS,
    GOOD,
    MAX_DRAFT_LEN,
    NUM_LAYERS,
    make_outlooks,
)


def advice_on(tapes: Mapping[str, Sequence[Tape]], costs: CostTable = COSTS) -> Advice:
    overall, by_kind = make_outlooks(tapes, costs)
    return advise(overall, by_kind, costs, MAX_DRAFT_LEN)


def test_good_exits_are_worth_it() -> None:
    advice = advice_on({"math": [GOOD]})
    assert advice.is_worth_it
    [line] = advice.lines
    assert line.startswith("worth speculating with: exit 2 with up to 4 drafts")
    assert "tokens per round" in line


def test_kinds_that_lose_are_named() -> None:
    advice = advice_on({"math": [GOOD, GOOD, GOOD], "code": [BAD]})
    assert advice.is_worth_it
    assert advice.lines[1] == "for code --method off is as good or better"


def test_bad_exits_are_not_worth_it_and_the_reason_is_told() -> None:
    advice = advice_on({"code": [BAD]})
    assert not advice.is_worth_it
    text = "\n".join(advice.lines)
    assert text.startswith("not worth speculating with")
    # With one draft it takes (E + h) / (L + h), and two percent of gain more.
    assert "exit 2 comes nearest: it agrees with the last layer on 20% of the tokens" in text
    assert "would be needed" in text
    assert "not trained to exit early" in text
    assert "--method off" in text


def test_texts_for_which_it_pays_are_named() -> None:
    advice = advice_on({"math": [GOOD], "code": [BAD] * 9})
    assert not advice.is_worth_it
    assert "it pays for some texts" in advice.lines[-1]
    assert "math" in advice.lines[-1]


def test_a_round_too_dear_for_any_agreement_is_told() -> None:
    costs = in_layer_units(NUM_LAYERS, 0.5, EXITS, hand_over=1000.0)
    text = "\n".join(advice_on({"math": [GOOD]}, costs).lines)
    assert "a round there costs more than even 4 kept drafts save" in text


def test_misses_in_the_wrong_places_are_told() -> None:
    # Half of the text agrees, in one piece: evenly spread it would have paid at exit 1.
    track = ExitTrack([True] * 30 + [False] * 30, [0.9] * 60)
    tape = Tape(60, dict.fromkeys(EXITS, track), 100)
    costs = in_layer_units(NUM_LAYERS, 0.5, EXITS, hand_over=1.5)
    text = "\n".join(advice_on({"math": [tape]}, costs).lines)
    assert "agrees with the last layer on 50% of the tokens" in text
    assert "would do if its misses were evenly spread" in text
