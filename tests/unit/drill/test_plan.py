"""Which drills there are, and when each strikes: a function of the seed."""

import pytest

from shortstack.drill.faults import FAULTS, choose_faults
from shortstack.drill.plan import DELAY_SPAN_S, plan_strikes
from shortstack.drill.strikes import STRIKES
from shortstack.errors import UsageError


def test_every_fault_has_a_strike_and_every_strike_a_fault() -> None:
    assert [fault.name for fault in FAULTS] == list(STRIKES)


def test_equal_seeds_strike_alike_and_others_elsewhere() -> None:
    plans = [plan_strikes(FAULTS, seed, 3, 5.0) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]


def test_a_drill_is_the_same_alone_as_among_others() -> None:
    among = {strike.fault.name: strike for strike in plan_strikes(FAULTS, 7, 4, 5.0)}
    alone = plan_strikes(choose_faults(["pair-cut"]), 7, 4, 5.0)
    assert alone == (among["pair-cut"],)


def test_strikes_stay_within_their_bounds() -> None:
    for seed in range(50):
        for strike in plan_strikes(FAULTS, seed, 2, 1.0):
            assert strike.cell_index in (0, 1)
            assert DELAY_SPAN_S[0] <= strike.delay_s <= DELAY_SPAN_S[1]
            assert strike.hold_s == max(1.0, strike.fault.least_hold_s)


def test_an_unknown_drill_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"draft-eaten.*draft-killed.*clock-jump"):
        choose_faults(["draft-killed", "draft-eaten"])


def test_chosen_drills_come_in_the_catalogues_order() -> None:
    names = [fault.name for fault in choose_faults(["pair-cut", "draft-killed"])]
    assert names == ["draft-killed", "pair-cut"]


@pytest.mark.parametrize(
    ("name", "num_cells", "allowed"),
    [
        ("draft-killed", 1, False),
        ("verify-killed", 1, True),
        ("verify-killed", 2, False),
        ("gateway-killed", 2, True),
    ],
)
def test_who_may_be_told_to_try_again(name: str, num_cells: int, allowed: bool) -> None:
    assert choose_faults([name])[0].errors_allowed(num_cells) is allowed
