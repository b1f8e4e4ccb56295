"""The torch children: their messages, and both decoders on a tiny model in real processes."""

from pathlib import Path

import pytest

from shared.speculation.cost_model import CostTable
from shortstack.bench.shapes import ModelShape
from shortstack.bench.synth import SynthSpec, write_synthetic_model
from shortstack.bench.torch_messages import (
    Answer,
    CostsOrder,
    EarlyExit,
    Order,
    Ready,
    decode_answer,
    decode_costs,
    decode_order,
    decode_ready,
    encode_answer,
    encode_costs,
    encode_order,
)
from shortstack.bench.torch_peer import ModelChoice, TorchPeer
from shortstack.errors import CommandError

EARLY_EXIT = EarlyExit(2, 4, "constant", 0.0)
TINY = ModelShape(4, 64, 128, 4, 2, vocab_size=512)


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> ModelChoice:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic_model(folder, SynthSpec(TINY, 0.8, 2))
    return ModelChoice(folder, num_threads=1)


@pytest.mark.parametrize(
    "order",
    [
        Order((1, 2), 8, (2,)),
        Order((1, 2), 8, (), EARLY_EXIT, with_gaps=True),
        CostsOrder((2, 4), 6),
    ],
)
def test_orders_survive_the_wire(order: Order | CostsOrder) -> None:
    assert decode_order(encode_order(order)) == order


def test_answers_survive_the_wire() -> None:
    answer = Answer((1, 2, 3), 1, 10, 20, (0.5, 0.25, 1.0))
    assert decode_answer(encode_answer(answer)) == answer
    ready = Ready(2, {"OMP_WAIT_POLICY": "PASSIVE"})
    assert decode_ready(encode_answer(ready)) == ready


def test_costs_survive_the_wire() -> None:
    costs = CostTable({2: 3.0}, {2: 2.0}, {(2, 1): 8.0, (2, 2): 9.0}, 10.0)
    assert decode_costs(encode_costs(costs)) == costs


async def test_plain_and_transformers_emit_the_same_tokens(choice: ModelChoice) -> None:
    order = Order((300, 301, 302), 24, (2,))
    async with TorchPeer("plain", choice) as plain:
        expected = await plain.generate(order)
        assert plain.ready.num_threads == 1
    async with TorchPeer("hf", choice, {"OMP_WAIT_POLICY": "PASSIVE"}) as hf:
        answer = await hf.generate(order)
        early = await hf.generate(Order((300, 301, 302), 24, (2,), EARLY_EXIT))
        assert hf.ready.environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert answer.token_ids == early.token_ids == expected.token_ids
    assert len(expected.token_ids) == 24
    assert expected.first_len == answer.first_len == 1
    assert min(expected.decode_ns, answer.decode_ns, early.decode_ns) > 0


async def test_the_plain_child_measures_costs_and_gaps(choice: ModelChoice) -> None:
    async with TorchPeer("plain", choice) as plain:
        costs = await plain.costs(CostsOrder((2,), 3))
        answer = await plain.generate(Order((300,), 5, (2,), with_gaps=True))
    assert costs.exits == (2,)
    assert set(costs.verify_ns) == {(2, rows) for rows in range(1, 5)}
    assert len(answer.gaps) == 5


async def test_a_child_that_cannot_load_ends_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"(?s)the plain peer ended with status 1.*config\.json"):
        async with TorchPeer("plain", ModelChoice(tmp_path)):
            pass
