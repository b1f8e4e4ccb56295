"""What cells share on a real Redis: costs, an operator's orders, how they are doing."""

import json
import math

import pytest

from shared.control.store.arms import Arms
from shared.control.store.cell_load import CellLoad
from shared.control.store.costs import MAX_SAMPLES, CostCell
from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import arms_name, cost_name, live_name
from shared.ids import CellId
from tests.contract.store.conftest import MK, MakeStore
from tests.redis_server import RedisServer

HK = "hk-a"


async def test_costs_of_two_cells_become_their_mean_by_samples(make_store: MakeStore) -> None:
    one, two = make_store(), make_store()
    await one.merge_cost(HK, {"v:0:1:512": CostCell(100.0, 4.0, 30, 1), "h": CostCell(5, 0, 1, 1)})
    await two.merge_cost(HK, {"v:0:1:512": CostCell(200.0, 4.0, 10, 2)})
    costs = await one.read_cost(HK)
    assert costs is not None
    merged = costs["v:0:1:512"]
    assert (merged.num_samples, merged.at_ms) == (40, 2)
    assert math.isclose(merged.mean_us, 125.0)
    # Of 30 samples around 100 and 10 around 200, each with a variance of 4.
    assert math.isclose(merged.variance, 4.0 + (30 * 25**2 + 10 * 75**2) / 40)
    assert costs["h"] == CostCell(5.0, 0.0, 1, 1)


async def test_a_merged_cost_still_moves_after_many_samples(make_store: MakeStore) -> None:
    store = make_store()
    for _ in range(10):
        await store.merge_cost(HK, {"h": CostCell(10.0, 0.0, 1000)})
    await store.merge_cost(HK, {"h": CostCell(20.0, 0.0, MAX_SAMPLES)})
    costs = await store.read_cost(HK)
    assert costs is not None and math.isclose(costs["h"].mean_us, 15.0)


async def test_costs_that_cannot_be_read_are_left_out_and_replaced(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    foreign = {
        "a": "x",
        "b": "1,2",
        "c": "nan,0,3,4",
        "d": "1,-1,3,4",
        "e": b"\xff",
        "f": "1,1,0,0",
    }
    server.client.hset(cost_name(HK), mapping=foreign)
    good = CostCell(7.0, 1.0, 3, 4)
    assert await store.merge_cost(HK, {"a": good, "g": good}) is Outcome.DONE
    assert await store.read_cost(HK) == {"a": good, "g": good}
    assert server.client.pttl(cost_name(HK)) > 0


async def test_without_costs_nothing_is_sent(make_store: MakeStore, server: RedisServer) -> None:
    assert await make_store().merge_cost(HK, {}) is Outcome.DONE
    assert server.client.keys("*") == []
    assert await make_store().read_cost(HK) == {}


async def test_orders_are_read_as_an_operator_set_them(
    make_store: MakeStore, server: RedisServer
) -> None:
    store = make_store()
    assert await store.read_arms(MK) == Arms()
    document = {
        "version": 3, "enabled": False, "exits": [4, 2, 4], "lengths": [0, 1, 8],
        "theta": {"2": 0.5, "4": 0}, "margins": {"on": 1.05},
    }  # fmt: skip
    server.client.set(arms_name(MK), json.dumps(document))
    arms = await store.read_arms(MK)
    assert arms == Arms(3, False, (2, 4), (0, 1, 8), {2: 0.5, 4: 0.0}, {"margins": {"on": 1.05}})


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "\udcff", '{"enabled": 1}', '{"version": "2"}', '{"exits": 3}', '{"exits": [0]}',
     '{"lengths": [true]}', '{"theta": [1]}', '{"theta": {"x": 0.5}}', '{"theta": {"2": 1.5}}'],
)  # fmt: skip
async def test_malformed_orders_are_refused_and_no_outage(
    make_store: MakeStore, server: RedisServer, text: str
) -> None:
    store = make_store()
    server.client.set(arms_name(MK), text.encode(errors="surrogateescape"))
    for _ in range(4):
        assert await store.read_arms(MK) is None
    assert store.counters.results["read_arms", Outcome.REFUSED] == 4
    assert not store.is_degraded


async def test_a_cell_tells_how_it_is_doing_for_ten_seconds(
    make_store: MakeStore, server: RedisServer
) -> None:
    cell_id = CellId("cell-a")
    load = CellLoad(3, 1, "on", 123.45, is_degraded=False)
    assert await make_store().write_live(cell_id, load) is Outcome.DONE
    assert server.client.hgetall(live_name(cell_id)) == {
        b"B": b"3", b"queue": b"1", b"mode": b"on", b"tok_s": b"123.5", b"degraded": b"0",
    }  # fmt: skip
    assert 0 < server.client.pttl(live_name(cell_id)) <= 10_000
