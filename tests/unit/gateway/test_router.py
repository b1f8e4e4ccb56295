"""Requests go to live cells with room, and stay off those that keep failing."""

import random
from dataclasses import replace

import pytest

from services.gateway.router import MAX_FAILURES, OPEN_S, BootKey, Router, boot_key
from shared.control.registry import CellLease
from shared.errors import NoCell
from shared.ids import BootId, CellId, WorkerId


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def cell(name: str, *, num_sessions: int = 0, num_free_pages: int = 10) -> CellLease:
    """Return a live cell of room for ten sessions."""
    return CellLease(
        cell_id=CellId(name),
        worker_id=WorkerId(f"verify-{name}"),
        boot_id=BootId(1),
        address=f"unix:/{name}",
        model_name="small",
        model_fingerprint="f",
        num_sessions=num_sessions,
        max_sessions=10,
        num_free_pages=num_free_pages,
        num_draft_workers=1,
    )


def router_of(*cells: CellLease, clock: Clock | None = None) -> Router:
    """Return a router over fixed cells, with a known order of draws."""
    return Router(lambda: cells, clock=clock or Clock(), generator=random.Random(0))


def test_the_less_loaded_of_two_is_taken() -> None:
    router = router_of(cell("busy", num_sessions=5), cell("calm", num_sessions=1))
    assert {router.pick("small").cell_id for _ in range(20)} == {"calm"}


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (cell("worse", num_free_pages=1), cell("better", num_free_pages=2)),
        (replace(cell("worse"), num_draft_workers=0), cell("better", num_free_pages=1)),
        (replace(cell("worse", num_sessions=2), max_sessions=4), cell("better", num_sessions=3)),
    ],
    ids=["pages", "no_drafter", "share_of_room"],
)
def test_equal_load_is_decided_by_what_is_left(worse: CellLease, better: CellLease) -> None:
    assert router_of(worse, better).pick("small").cell_id == "better"


def test_two_are_drawn_so_that_not_everyone_runs_to_the_least_loaded() -> None:
    cells = [cell(f"cell-{load}", num_sessions=load) for load in range(4)]
    picked = [router_of(*cells).pick("small").cell_id for _ in range(1)]
    router = router_of(*cells)
    picked += [router.pick("small").cell_id for _ in range(200)]
    assert set(picked) == {"cell-0", "cell-1", "cell-2"}


def test_own_sessions_count_before_the_cell_has_told_of_them() -> None:
    told, other = cell("told", num_sessions=1), cell("other", num_sessions=0)
    router = router_of(told, other)
    for _ in range(3):
        router.begin(other)
    assert router.pick("small").cell_id == "told"
    for _ in range(3):
        router.end(other)
    assert router.pick("small").cell_id == "other"


@pytest.mark.parametrize(
    ("cells", "excluded", "reason"),
    [
        ((), (), "no cell serves"),
        ((replace(cell("a"), model_name="large"),), (), "no cell serves"),
        ((replace(cell("a"), is_draining=True),), (), "no cell serves"),
        ((cell("a"),), (boot_key(cell("a")),), "no other cell serves"),
    ],
    ids=["none", "other_model", "draining", "excluded"],
)
def test_where_no_cell_is_left_it_is_said_why(
    cells: tuple[CellLease, ...], excluded: tuple[BootKey, ...], reason: str
) -> None:
    with pytest.raises(NoCell, match=reason):
        router_of(*cells).pick("small", excluded)


def test_a_cell_that_keeps_failing_is_left_out_until_one_trial_succeeds() -> None:
    clock = Clock()
    bad, good = cell("bad"), cell("good", num_sessions=9)
    router = router_of(bad, good, clock=clock)
    for _ in range(MAX_FAILURES):
        router.breaker_of(bad).fail()
    assert router.pick("small").cell_id == "good"
    clock.now_s += OPEN_S
    assert router.pick("small").cell_id == "bad"
    router.begin(bad)
    assert router.pick("small").cell_id == "good"
    router.breaker_of(bad).succeed()
    router.end(bad)
    assert router.pick("small").cell_id == "bad"


def test_the_cell_that_knows_the_prompt_is_taken_though_a_little_busier() -> None:
    cells = [cell(f"cell-{index}", num_sessions=0) for index in range(8)]
    cells[5] = replace(cells[5], num_sessions=2)
    router = router_of(*cells)
    router.note_prefix(cells[5], (1, 2, 3))
    router.note_prefix(cells[6], (1,))
    assert {router.pick("small", (), (1, 2, 9)).cell_id for _ in range(50)} == {"cell-5"}
    assert len({router.pick("small", (), (9,)).cell_id for _ in range(100)}) > 5
    others = {router.pick("small", (("cell-5", 1),), (1, 2, 9)).cell_id for _ in range(50)}
    assert others == {"cell-6"}


def test_a_cell_that_is_much_busier_or_full_is_not_taken_for_its_prefix() -> None:
    calm, busy = cell("calm"), cell("busy", num_sessions=3)
    router = router_of(calm, busy)
    router.note_prefix(busy, (1, 2))
    assert router.pick("small", (), (1, 2)).cell_id == "calm"
    router.note_prefix(calm, (1, 2))
    assert router.pick("small", (), (1, 2)).cell_id == "calm"
    full, nearly = cell("full", num_sessions=10), cell("nearly", num_sessions=9)
    router = router_of(full, nearly)
    router.note_prefix(full, (1,))
    assert router.pick("small", (), (1,)).cell_id == "nearly"


def test_a_new_boot_knows_no_prefix() -> None:
    old = cell("old", num_sessions=1)
    cells = [old, cell("other")]
    router = Router(lambda: cells, clock=Clock(), generator=random.Random(0))
    router.note_prefix(old, (1, 2))
    assert router.pick("small", (), (1, 2)).cell_id == "old"
    cells[0] = replace(old, boot_id=BootId(2))
    assert router.pick("small", (), (1, 2)).cell_id == "other"


def test_with_every_breaker_open_the_wait_is_told() -> None:
    clock = Clock()
    router = router_of(cell("bad"), clock=clock)
    for _ in range(MAX_FAILURES):
        router.breaker_of(cell("bad")).fail()
    clock.now_s += OPEN_S - 2
    with pytest.raises(NoCell) as caught:
        router.pick("small")
    assert caught.value.retry_delay_ms == 2001


def test_a_new_boot_starts_with_a_clean_record() -> None:
    old = cell("bad")
    cells = [old]
    router = Router(lambda: cells, clock=Clock())
    for _ in range(MAX_FAILURES):
        router.breaker_of(old).fail()
    cells[0] = replace(old, boot_id=BootId(2))
    assert router.pick("small").boot_id == 2


def test_a_cell_that_was_left_is_another_one_after_its_restart() -> None:
    left = cell("a")
    restarted = replace(left, boot_id=BootId(2))
    assert router_of(restarted).pick("small", [boot_key(left)]) == restarted
