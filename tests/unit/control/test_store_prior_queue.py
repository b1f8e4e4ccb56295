"""Counts wait in sums; what was tried keeps its id and content until it is known or given up."""

from shared.control.store.prior_counts import PriorFlush, PriorKey
from shared.control.store.prior_queue import GIVE_UP_S, PriorQueue

ANN, BOB = PriorKey("mk", "ann"), PriorKey("mk", "bob")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def queue_of(clock: Clock | None = None, max_items: int = 10) -> PriorQueue:
    """Return an empty queue."""
    return PriorQueue("cell-7", clock or Clock(), max_items)


def contents(items: list[PriorFlush]) -> list[tuple[str, int, dict[str, int]]]:
    """Return what items hold."""
    return [(item.key.tenant, item.day, dict(item.counts)) for item in items]


def test_counts_of_one_kind_and_day_are_one_item() -> None:
    queue = queue_of()
    queue.add(ANN, 5, {"pos": 1, "r:2:1": 2})
    queue.add(BOB, 5, {"pos": 10})
    queue.add(ANN, 5, {"pos": 3, "h:2:1": 1})
    queue.add(ANN, 6, {"pos": 4})
    assert contents(list(queue.due())) == [
        ("ann", 5, {"pos": 4, "r:2:1": 2, "h:2:1": 1}),
        ("bob", 5, {"pos": 10}),
        ("ann", 6, {"pos": 4}),
    ]


def test_no_counts_are_no_item() -> None:
    queue = queue_of()
    queue.add(ANN, 5, {})
    queue.add(ANN, 5, {"pos": 0})
    assert len(queue) == 0


def test_what_was_tried_takes_no_more_counts_and_keeps_its_id() -> None:
    queue = queue_of()
    queue.add(ANN, 5, {"pos": 1})
    (tried,) = queue.due()
    queue.add(ANN, 5, {"pos": 2})
    again, fresh = queue.due()
    assert again is tried
    assert (dict(again.counts), dict(fresh.counts)) == ({"pos": 1}, {"pos": 2})
    assert again.flush_id != fresh.flush_id
    assert {again.flush_id, fresh.flush_id} == {"cell-7-1", "cell-7-2"}
    queue.remove(tried)
    assert list(queue.due()) == [fresh]


def test_what_was_not_reached_still_takes_counts() -> None:
    queue = queue_of()
    queue.add(ANN, 5, {"pos": 1})
    queue.add(BOB, 5, {"pos": 1})
    next(iter(queue.due()))
    queue.add(BOB, 5, {"pos": 1})
    assert contents(list(queue.due()))[1:] == [("bob", 5, {"pos": 2})]


def test_what_was_tried_for_too_long_is_given_up_and_what_only_waited_is_not() -> None:
    clock = Clock()
    queue = queue_of(clock)
    queue.add(ANN, 5, {"pos": 1})
    queue.add(BOB, 5, {"pos": 1})
    next(iter(queue.due()))
    clock.now_s += GIVE_UP_S
    assert len(list(queue.due())) == 2
    clock.now_s += 1
    assert contents(list(queue.due())) == [("bob", 5, {"pos": 1})]
    assert (queue.num_given_up, len(queue)) == (1, 1)


def test_beyond_the_limit_the_oldest_is_dropped_and_counted() -> None:
    queue = queue_of(max_items=2)
    for day in range(5):
        queue.add(ANN, day, {"pos": day + 1})
    assert [day for _, day, _ in contents(list(queue.due()))] == [3, 4]
    assert queue.num_dropped == 3
    queue.add(ANN, 0, {"pos": 7})
    assert contents(list(queue.due()))[-1] == ("ann", 0, {"pos": 7})
