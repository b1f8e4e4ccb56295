"""What is made of measured times: means without stalls, and order where noise had none."""

import pytest

from shared.control.replay.step_times import StepTimes
from shortstack.bench.control.measure import in_order, middle_mean


def test_stalls_of_many_runs_are_left_out_and_slow_times_are_not() -> None:
    assert middle_mean([3.0]) == 3.0
    assert middle_mean([1.0, 5.0]) == 3.0
    assert middle_mean([*[1.0] * 5, *[2.0] * 4, 900.0]) == pytest.approx((4 * 1.0 + 4 * 2.0) / 8)


def test_no_more_layers_and_no_more_rows_take_less() -> None:
    found = StepTimes(
        num_layers=8,
        draft_ns={(2, 1): 50.0, (4, 1): 45.0},
        closing_ns={(2, 1): 40.0, (4, 1): 38.0},
        verify_ns={
            **{(0, 1): 90.0, (0, 2): 85.0},
            **{(2, 1): 60.0, (2, 2): 95.0},
            **{(4, 1): 70.0, (4, 2): 69.0},
        },
    )
    ordered = in_order(found)
    assert ordered.closing_ns == {(2, 1): 40.0, (4, 1): 40.0}
    # The head's own time stays.
    assert ordered.draft_ns == {(2, 1): 50.0, (4, 1): 47.0}
    assert ordered.verify_ns == {
        **{(4, 1): 70.0, (4, 2): 70.0},
        **{(2, 1): 70.0, (2, 2): 95.0},
        # Plain passes in a row may take less than a pass behind a pause.
        **{(0, 1): 90.0, (0, 2): 90.0},
    }
    assert in_order(ordered) == ordered
