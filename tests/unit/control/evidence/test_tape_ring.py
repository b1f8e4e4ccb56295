"""The ring of the last positions: what it keeps, and the runs it hands to replay."""

from random import Random

import pytest

from shared.control.evidence.observation import Observation, Read
from shared.control.evidence.tape_ring import TapeRing
from tests.unit.control.evidence.tapes import plain_observation

Known = list[tuple[bool, float] | None]


def runs_of(known: Known, min_len: int, max_known: int) -> list[list[tuple[bool, float]]]:
    """Walk the positions one by one, newest first."""
    runs: list[list[tuple[bool, float]]] = []
    run: list[tuple[bool, float]] = []
    for each in [*reversed(known[-256:]), None]:
        if each is not None:
            run.insert(0, each)
        else:
            runs.insert(0, run)
            run = []
    kept: list[list[tuple[bool, float]]] = []
    for run in reversed(runs):
        run = run[max(0, len(run) - max_known) :]
        if len(run) >= min_len:
            max_known -= len(run)
            kept.insert(0, run)
    return kept


@pytest.mark.parametrize("seed", range(6))
def test_runs_are_those_of_a_list_of_all_positions(seed: int) -> None:
    random = Random(seed)
    ring = TapeRing([2, 4])
    known: dict[int, Known] = {2: [], 4: []}
    for _ in range(random.randrange(5, 200)):
        num_positions = random.randrange(0, 9)
        reads: dict[int, list[Read | None]] = {}
        for exit_layer in (2, 4):
            if exit_layer == 4 and random.random() < 0.2:
                known[4] += [None] * num_positions
                continue
            row = [
                None if random.random() < 0.1 else Read(random.random() < 0.6, random.random())
                for _ in range(num_positions)
            ]
            reads[exit_layer] = row
            known[exit_layer] += [each and (each.is_match, each.confidence) for each in row]
        ring.note(Observation(num_positions, reads))
    for exit_layer in (2, 4):
        for min_len, max_known in ((1, 256), (4, 192), (4, 20)):
            runs = ring.runs(exit_layer, min_len, max_known)
            expected = runs_of(known[exit_layer], min_len, max_known)
            assert [run.matches for run in runs] == [[m for m, _ in run] for run in expected]
            for run, wished in zip(runs, expected, strict=True):
                assert run.confidences == pytest.approx([c for _, c in wished], abs=0.5 / 255)
    assert len(ring) == min(256, len(known[2]))
    assert ring.num_positions == len(known[2])


def test_the_recent_positions_are_counted() -> None:
    ring = TapeRing([4])
    ring.note(plain_observation({4: [1, 1, 1, None, 0, 1]}))
    assert ring.recent(4, 4) == (3, 2)
    assert ring.recent(4, 24) == (5, 4)
    assert ring.recent(6, 24) == (0, 0)


def test_round_starts_are_flagged() -> None:
    ring = TapeRing([4])
    ring.note(plain_observation({4: [1, 1, 0]}))
    ring.note(plain_observation({4: [1]}))
    ring.note(Observation(0))
    ring.note(Observation(2))
    # Where nothing was read rounds were plain, and of one position each.
    assert ring.round_starts() == [True, False, False, True, True, True]
    assert [run.matches for run in ring.runs(4)] == [[True, True, False, True]]


def test_an_empty_ring_has_nothing() -> None:
    ring = TapeRing([4])
    assert ring.runs(4) == []
    assert ring.round_starts() == []
    assert len(ring) == 0


def test_an_exit_that_turns_up_later_was_not_read_before() -> None:
    ring = TapeRing([4])
    ring.note(plain_observation({4: [1, 1, 1, 1]}))
    ring.note(plain_observation({6: [1, 0, 1, 1]}))
    assert [run.matches for run in ring.runs(6)] == [[True, False, True, True]]
    assert [run.matches for run in ring.runs(4)] == [[True] * 4]


def test_confidences_at_the_bounds_come_back() -> None:
    ring = TapeRing([4])
    ring.note(Observation(2, {4: [Read(True, 0.0), Read(True, 1.0)]}))
    assert ring.runs(4, min_len=1)[0].confidences == [0.0, 1.0]
