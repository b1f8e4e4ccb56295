"""An arm: a method at an exit layer, as the one number that evidence, costs and priors are kept by.

    layerskip    E              the exit layer itself, in [1, 256)
    others       256 * i + E    i: the method's place in METHODS_BY_PLACE

Exits of `layerskip` are early read-outs: what they would choose is known wherever the target runs.
Other arms are known from rounds of their own alone.
"""

from dataclasses import replace

from shared.speculation.vocabulary import KANGAROO, LAYERSKIP, SWIFT, Decision

STRIDE = 256
# Stores hold arms: append only.
METHODS_BY_PLACE = (LAYERSKIP, KANGAROO, SWIFT)


def arm_of(method: str, exit_layer: int) -> int:
    """Return the arm of a method at an exit layer.

    Raises:
        ValueError: no method that can be an arm, or the layer lies outside [0, 256).
    """
    if method not in METHODS_BY_PLACE or not 0 <= exit_layer < STRIDE:
        raise ValueError(f"method {method!r} at layer {exit_layer} is no arm")
    return STRIDE * METHODS_BY_PLACE.index(method) + exit_layer


def method_of(arm: int) -> str:
    """Return the method of an arm."""
    return METHODS_BY_PLACE[arm // STRIDE]


def exit_layer_of(arm: int) -> int:
    """Return the exit layer of an arm."""
    return arm % STRIDE


def is_read_out(arm: int) -> bool:
    """Whether an arm can be read wherever the target runs, without drafting."""
    return arm < STRIDE


def arm_in_use(decision: Decision) -> int:
    """Return the arm that a decision drafts from; it must not be off."""
    return arm_of(decision.method, decision.exit_layer)


def at_arm(decision: Decision, arm: int) -> Decision:
    """Return a decision that drafts likewise from another arm."""
    method = method_of(arm)
    if method == decision.method:
        return decision.at_exit(exit_layer_of(arm))
    # How far drafts may branch, and what is told of them, is no matter of another method.
    return replace(
        decision,
        method=method,
        exit_layer=exit_layer_of(arm),
        tree=None,
        by_chance=decision.by_chance and is_read_out(arm),
    )
