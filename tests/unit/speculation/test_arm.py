"""Arms: one number for a method at an exit layer, and back."""

import pytest

from shared.speculation.arm import (
    METHODS_BY_PLACE,
    STRIDE,
    arm_in_use,
    arm_of,
    at_arm,
    exit_layer_of,
    is_read_out,
    method_of,
)
from shared.speculation.methods.registry import METHODS
from shared.speculation.vocabulary import KANGAROO, LAYERSKIP, Decision


@pytest.mark.parametrize("method", METHODS_BY_PLACE)
@pytest.mark.parametrize("exit_layer", [0, 1, 80, STRIDE - 1])
def test_an_arm_tells_its_method_and_exit_layer(method: str, exit_layer: int) -> None:
    arm = arm_of(method, exit_layer)
    assert (method_of(arm), exit_layer_of(arm)) == (method, exit_layer)
    assert is_read_out(arm) is (method == LAYERSKIP)


def test_exits_of_layerskip_are_their_own_arms_and_all_arms_differ() -> None:
    assert [arm_of(LAYERSKIP, exit_layer) for exit_layer in (1, 2, 40)] == [1, 2, 40]
    arms = [arm_of(method, layer) for method in METHODS_BY_PLACE for layer in range(STRIDE)]
    assert len(set(arms)) == len(arms)


def test_every_method_can_be_an_arm() -> None:
    assert set(METHODS) <= set(METHODS_BY_PLACE)


@pytest.mark.parametrize(("method", "exit_layer"), [("off", 1), (LAYERSKIP, -1), (KANGAROO, 256)])
def test_what_is_no_arm_is_refused(method: str, exit_layer: int) -> None:
    with pytest.raises(ValueError, match="is no arm"):
        arm_of(method, exit_layer)


def test_a_decision_moves_to_another_arm_and_keeps_the_rest() -> None:
    decision = Decision(LAYERSKIP, 3, 5, 0.25, "policy")
    assert at_arm(decision, arm_of(KANGAROO, 2)) == Decision(KANGAROO, 2, 5, 0.25, "policy")
    assert at_arm(decision, 4) == Decision(LAYERSKIP, 4, 5, 0.25, "policy")
    assert arm_in_use(at_arm(decision, arm_of(KANGAROO, 2))) == arm_of(KANGAROO, 2)
