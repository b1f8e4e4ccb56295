"""What was promised against what happened: each broken promise is told, and nothing else."""

from collections import Counter
from dataclasses import replace

import pytest

from shortstack.drill.answers import Deviation
from shortstack.drill.faults import choose_faults
from shortstack.drill.holdings import Holdings, more_held
from shortstack.drill.load import Tally
from shortstack.drill.plan import plan_strikes
from shortstack.drill.verdict import Drill
from shortstack.request import Request


def make_drill(name: str = "draft-killed", num_cells: int = 2) -> Drill:
    """Return a drill that kept every promise."""
    strike = plan_strikes(choose_faults([name]), 1, num_cells, 5.0)[0]
    return Drill(strike, num_cells, Tally(num_requests=5, num_tokens=100), recovery_s=0.5)


def test_a_drill_that_kept_its_promises_has_none_broken() -> None:
    assert make_drill().broken() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"recovery_s": None}, "did not come back"),
        ({"recovery_s": 5.1}, "came back after 5.1 s"),
        ({"leaks": ["cell-0: 3 pages held"]}, "held: cell-0: 3 pages held"),
        ({"missing_logs": ["gateway: cell left"]}, "never logged: gateway: cell left"),
        ({"failures": ["did not refuse"]}, "did not refuse"),
        ({"tally": Tally(num_requests=5)}, "no request was answered"),
        ({"tally": Tally(num_tokens=1, lost=["Internal: x"])}, "lost: Internal: x"),
        (
            {"tally": Tally(num_tokens=1, deviations=[Deviation(Request("a"), (1,))])},
            "1 answers differ",
        ),
        ({"tally": Tally(num_tokens=1, errors=Counter(NoCell=2))}, "2 NoCell"),
    ],
)
def test_each_broken_promise_is_told(change: dict[str, object], told: str) -> None:
    broken = replace(make_drill(), **change).broken()  # type: ignore[arg-type]
    assert len(broken) == 1 and told in broken[0]


def test_near_ties_are_no_broken_promise_but_are_told() -> None:
    tally = Tally(num_tokens=1, deviations=[Deviation(Request("a"), (1,))])
    drill = replace(make_drill(), tally=tally, num_near_ties=1)
    assert drill.broken() == []
    assert "1 near ties" in drill.happened()


def test_errors_that_a_fault_may_bring_are_told_but_break_nothing() -> None:
    tally = Tally(num_tokens=1, errors=Counter(WorkerLost=3))
    drill = replace(make_drill("verify-killed", num_cells=1), tally=tally)
    assert drill.broken() == []
    assert "3 WorkerLost" in drill.happened()


def test_a_skipped_drill_breaks_nothing_and_says_why() -> None:
    drill = Drill(make_drill().strike, 2, skipped="no unshare")
    assert drill.broken() == []
    assert drill.to_json()["skipped"] == "no unshare"


def test_what_is_left_in_shared_memory_is_told() -> None:
    before = Holdings({}, frozenset({"/dev/shm/a", "/dev/shm/b"}), 5)
    now = Holdings({}, frozenset({"/dev/shm/b", "/dev/shm/c"}), 6)
    existing = frozenset({"/dev/shm/a", "/dev/shm/b"})
    assert more_held(before, now, existing) == ["/dev/shm/a is left behind", "1 more processes"]
    assert more_held(before, before, existing) == []
