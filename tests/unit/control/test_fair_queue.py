"""Tenants share by tokens, low priority waits but does not starve, and nothing is lost."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.control.fair_queue import FairQueue, Priority

AGEING_S = 10.0
MAX_COST = 50
TENANTS = ["", "ann", "bob", "cem"]
costs = st.integers(1, MAX_COST)
priorities = st.sampled_from(Priority)
backlogs = st.dictionaries(
    st.sampled_from(TENANTS), st.lists(costs, min_size=1, max_size=30), min_size=1
)


def filled(backlog: dict[str, list[int]]) -> FairQueue[tuple[str, int]]:
    """Return a queue with every tenant's items at time 0; an item is (tenant, index)."""
    queue: FairQueue[tuple[str, int]] = FairQueue(AGEING_S)
    for tenant, item_costs in backlog.items():
        for index, cost in enumerate(item_costs):
            queue.push((tenant, index), tenant, Priority.NORMAL, cost, 0.0)
    return queue


def drained(queue: FairQueue[str], now_s: float = 0.0) -> list[str]:
    """Take everything out at one moment."""
    return [queue.pop(now_s) for _ in range(len(queue))]


@given(backlogs)
def test_backlogged_tenants_differ_by_at_most_one_items_cost(backlog: dict[str, list[int]]) -> None:
    queue = filled(backlog)
    charged, num_left = Counter[str](), {name: len(each) for name, each in backlog.items()}
    while all(num_left.values()):
        tenant, index = queue.pop(0.0)
        charged[tenant] += backlog[tenant][index]
        num_left[tenant] -= 1
        shares = [charged[name] for name in backlog]
        assert max(shares) - min(shares) <= MAX_COST


@given(backlogs, st.integers(1, 20))
def test_what_was_refunded_does_not_count_in_the_shares(
    backlog: dict[str, list[int]], used: int
) -> None:
    # Everybody takes `used` tokens at most, whatever was charged at first.
    queue = filled(backlog)
    taken, num_left = Counter[str](), {name: len(each) for name, each in backlog.items()}
    while all(num_left.values()):
        tenant, index = queue.pop(0.0)
        really = min(used, backlog[tenant][index])
        queue.refund(tenant, backlog[tenant][index] - really)
        taken[tenant] += really
        num_left[tenant] -= 1
        shares = [taken[name] for name in backlog]
        assert max(shares) - min(shares) <= MAX_COST


@given(backlogs)
def test_items_of_a_tenant_leave_in_order_and_none_is_lost(backlog: dict[str, list[int]]) -> None:
    queue = filled(backlog)
    order = [queue.pop(0.0) for _ in range(len(queue))]
    assert queue.peek(0.0) is None
    for name, item_costs in backlog.items():
        mine = [index for tenant, index in order if tenant == name]
        assert mine == list(range(len(item_costs)))


@given(
    st.lists(st.tuples(st.sampled_from(TENANTS), priorities, costs), max_size=40),
    st.integers(0, 20),
    st.tuples(st.sampled_from(TENANTS), priorities, costs),
)
def test_the_number_before_a_newcomer_is_what_it_then_meets(
    pushes: list[tuple[str, Priority, int]], num_popped: int, newcomer: tuple[str, Priority, int]
) -> None:
    queue: FairQueue[int] = FairQueue(AGEING_S)
    for index, (tenant, priority, cost) in enumerate(pushes):
        queue.push(index, tenant, priority, cost, 0.0)
    for _ in range(min(num_popped, len(pushes))):
        queue.pop(0.0)
    tenant, priority, cost = newcomer
    num_before = queue.num_before(tenant, priority, cost, 0.0)
    queue.push(-1, tenant, priority, cost, 0.0)
    order = [queue.pop(0.0) for _ in range(len(queue))]
    assert order.index(-1) == num_before


@settings(max_examples=50)
@given(st.lists(costs, min_size=1, max_size=20), costs, costs)
def test_low_priority_does_not_starve_under_endless_normal_load(
    low_costs: list[int], cost_a: int, cost_b: int
) -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    for index, cost in enumerate(low_costs):
        queue.push(f"low-{index}", "patient", Priority.LOW, cost, 0.0)
    served: list[str] = []
    # One item a second is served, and two busy tenants always have one waiting.
    num_needed = 2 * (sum(low_costs) + MAX_COST) + len(low_costs)
    for second in range(int(AGEING_S) + num_needed + 1):
        for tenant, cost in (("a", cost_a), ("b", cost_b)):
            if not queue.num_waiting_of(tenant):
                queue.push(f"{tenant}-{second}", tenant, Priority.NORMAL, cost, float(second))
        served.append(queue.pop(float(second)))
    low = [item for item in served if item.startswith("low")]
    assert low == [f"low-{index}" for index in range(len(low_costs))]
    assert not any(item.startswith("low") for item in served[: int(AGEING_S)])


def test_a_small_item_of_a_newcomer_goes_before_the_backlog_of_another() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    for index in range(5):
        queue.push(f"heavy-{index}", "heavy", Priority.NORMAL, 100, 0.0)
    assert queue.pop(0.0) == "heavy-0"
    queue.push("light", "light", Priority.NORMAL, 20, 0.0)
    assert queue.pop(0.0) == "light"


def test_the_idle_keep_no_credit() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    queue.push("early", "idle", Priority.NORMAL, 10, 0.0)
    for index in range(12):
        queue.push(f"busy-{index}", "busy", Priority.NORMAL, 10, 0.0)
    assert [queue.pop(0.0) for _ in range(9)] == ["early", *(f"busy-{i}" for i in range(8))]
    queue.refund("idle", 10)
    for index in range(4):
        queue.push(f"late-{index}", "idle", Priority.NORMAL, 10, 0.0)
    assert drained(queue) == [
        "busy-8", "late-0", "busy-9", "late-1", "busy-10", "late-2", "busy-11", "late-3",
    ]  # fmt: skip


def test_a_tenant_pays_what_it_took_beyond_the_cost_even_after_a_pause() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    queue.push("costly", "debtor", Priority.NORMAL, 10, 0.0)
    for index in range(6):
        queue.push(f"other-{index}", "other", Priority.NORMAL, 10, 0.0)
    assert queue.pop(0.0) == "costly"
    queue.charge("debtor", 25)
    queue.push("next", "debtor", Priority.NORMAL, 10, 0.0)
    # 10 and 25 were charged for the first; 40 go to the other before the 10 of the next.
    others = [f"other-{index}" for index in range(6)]
    assert drained(queue) == [*others[:4], "next", *others[4:]]


def test_normal_goes_before_low_of_every_tenant_until_the_low_one_has_aged() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    queue.push("low", "ann", Priority.LOW, 1, 0.0)
    queue.push("own", "ann", Priority.NORMAL, 50, 1.0)
    queue.push("other", "bob", Priority.NORMAL, 100, 1.0)
    assert queue.pop(1.0) == "own"
    queue.push("late", "ann", Priority.NORMAL, 1, AGEING_S)
    assert [queue.pop(AGEING_S) for _ in range(3)] == ["low", "late", "other"]


def test_the_next_item_stays_the_next_until_the_queue_changes() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    queue.push("first", "ann", Priority.LOW, 5, 0.0)
    queue.push("cheap", "bob", Priority.LOW, 1, 5.0)
    assert queue.peek(5.0) == "cheap"
    # `first` counts as normal by now; who looked is not to find another item for that.
    assert queue.peek(AGEING_S) == "cheap"
    queue.remove("cheap")
    assert queue.peek(AGEING_S) == "first"


def test_a_tenant_that_is_held_back_lets_the_others_pass_and_gathers_no_credit() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    queue.set_held("held", True)
    for index in range(4):
        queue.push(f"held-{index}", "held", Priority.NORMAL, 10, 0.0)
        queue.push(f"free-{index}", "free", Priority.NORMAL, 10, 0.0)
    assert queue.num_before("new", Priority.NORMAL, 20, 0.0) == 2
    assert [queue.pop(0.0) for _ in range(2)] == ["free-0", "free-1"]
    queue.set_held("held", False)
    assert drained(queue) == ["held-0", "free-2", "held-1", "free-3", "held-2", "held-3"]
    queue.set_held("held", True)
    queue.push("again", "held", Priority.NORMAL, 1, 0.0)
    assert queue.peek(0.0) is None
    with pytest.raises(LookupError):
        queue.pop(0.0)


def test_room_is_made_by_the_tenant_with_most_waiting_and_only_for_one_with_less() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    assert queue.overfull("ann", 1) is None
    for name, priority in (("old", Priority.LOW), ("new", Priority.LOW), ("last", Priority.NORMAL)):
        queue.push(name, "ann", priority, 10, 0.0)
    assert queue.overfull("bob", 29) == "new"
    assert queue.overfull("bob", 30) is None
    assert queue.overfull("ann", 1) is None


def test_what_cannot_be_queued_is_refused() -> None:
    queue: FairQueue[str] = FairQueue(AGEING_S)
    queue.push("a", "ann", Priority.NORMAL, 1, 0.0)
    with pytest.raises(ValueError, match="is in the queue"):
        queue.push("a", "bob", Priority.NORMAL, 1, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        queue.push("b", "bob", Priority.NORMAL, 0, 0.0)
    with pytest.raises(KeyError):
        queue.remove("b")


class QueueMachine(RuleBasedStateMachine):
    """Random operations against a plain list: nothing is lost, nothing comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(AGEING_S)
        self.waiting: dict[int, tuple[str, Priority]] = {}
        self.num_pushed = 0
        self.now_s = 0.0

    @rule(tenant=st.sampled_from(TENANTS), priority=priorities, cost=costs)
    def push(self, tenant: str, priority: Priority, cost: int) -> None:
        self.queue.push(self.num_pushed, tenant, priority, cost, self.now_s)
        self.waiting[self.num_pushed] = (tenant, priority)
        self.num_pushed += 1

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.queue.peek(self.now_s) is not None)
    @rule()
    def pop(self) -> None:
        expected = self.queue.peek(self.now_s)
        item = self.queue.pop(self.now_s)
        assert item == expected
        lane = self.waiting.pop(item)
        # First in, first out, among the items of one tenant and one priority.
        assert all(item < other for other, its in self.waiting.items() if its == lane)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.waiting)))
        self.queue.remove(item)
        del self.waiting[item]

    @rule(tenant=st.sampled_from(TENANTS), num_tokens=st.integers(-60, 60))
    def correct(self, tenant: str, num_tokens: int) -> None:
        self.queue.charge(tenant, num_tokens)
        self.queue.refund(tenant, -num_tokens)

    @rule(tenant=st.sampled_from(TENANTS), is_held=st.booleans())
    def hold(self, tenant: str, is_held: bool) -> None:
        self.queue.set_held(tenant, is_held)

    @invariant()
    def holds_what_was_pushed(self) -> None:
        assert list(self.queue) == list(self.waiting)
        assert len(self.queue) == len(self.waiting)
        for tenant in TENANTS:
            expected = sum(name == tenant for name, _ in self.waiting.values())
            assert self.queue.num_waiting_of(tenant) == expected

    def teardown(self) -> None:
        for tenant in TENANTS:
            self.queue.set_held(tenant, False)
        while (item := self.queue.peek(self.now_s)) is not None:
            assert self.queue.pop(self.now_s) == item
            del self.waiting[item]
        assert not self.waiting
        assert not len(self.queue)


TestQueueMachine = QueueMachine.TestCase
