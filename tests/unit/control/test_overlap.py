"""When overlap is tried, kept and left, on a machine whose two speeds are known."""

import pytest

from shared.control.overlap import FIRST_WAIT, MARGIN, NUM_STEPS, Overlap, OverlapChooser

STEP_NS = 1_000_000


def run(chooser: OverlapChooser, num_steps: int, gain: float, num_drafting: int = 8) -> list[bool]:
    """Run steps on a machine where overlap delivers `gain` times as much; return who overlapped."""
    chosen = []
    for _ in range(num_steps):
        is_overlapped = chooser.choose(num_drafting)
        # Half of the sessions a step, each of them sooner.
        num_emitted, ns = (10, STEP_NS / gain) if is_overlapped else (20, 2 * STEP_NS)
        chooser.note(num_emitted, int(ns), has_prefill=False)
        chosen.append(is_overlapped)
    return chosen


@pytest.mark.parametrize(("wish", "expected"), [(Overlap.ON, True), (Overlap.OFF, False)])
def test_a_setting_is_a_setting(wish: Overlap, expected: bool) -> None:
    chooser = OverlapChooser(wish)
    assert set(run(chooser, 3 * FIRST_WAIT, gain=0.5 if expected else 2.0)) == {expected}


def test_what_delivers_more_stays() -> None:
    chosen = run(OverlapChooser(), FIRST_WAIT + 10 * NUM_STEPS, gain=1.3)
    assert not any(chosen[:FIRST_WAIT])
    assert all(chosen[-NUM_STEPS:])


@pytest.mark.parametrize("gain", [0.5, 1.0, MARGIN - 0.01])
def test_what_does_not_is_tried_ever_more_rarely(gain: float) -> None:
    chosen = run(OverlapChooser(), 40 * FIRST_WAIT, gain)
    assert not chosen[-1]
    num_trials = sum(chosen) / NUM_STEPS
    assert 3 <= num_trials <= 6
    late = chosen[len(chosen) // 2 :]
    assert sum(late) <= NUM_STEPS, "the second half has one trial at most"


def test_overlap_is_left_when_the_machine_changes() -> None:
    chooser = OverlapChooser()
    assert run(chooser, 4 * FIRST_WAIT, gain=1.3)[-1]
    assert not run(chooser, 40 * FIRST_WAIT, gain=0.7)[-1]


def test_loads_are_told_apart() -> None:
    chooser = OverlapChooser()
    assert run(chooser, 4 * FIRST_WAIT, gain=1.3, num_drafting=16)[-1]
    assert not run(chooser, NUM_STEPS, gain=1.3, num_drafting=3)[-1]
    assert run(chooser, 1, gain=1.3, num_drafting=16)[-1]


def test_one_session_has_nobody_to_overlap_with() -> None:
    assert not any(run(OverlapChooser(), 10 * FIRST_WAIT, gain=2.0, num_drafting=1))


def test_prompts_end_a_trial() -> None:
    chooser = OverlapChooser()
    run(chooser, FIRST_WAIT + NUM_STEPS, gain=1.3)
    assert chooser.choose(8) and chooser.is_trial
    chooser.note(10, STEP_NS, has_prefill=True)
    assert not chooser.choose(8)
    assert not chooser.is_trial
