"""What the command line says of exit adapters, and is told of them."""

from pathlib import Path

import pytest

from shared.rpc import shortstack_pb2 as pb
from shortstack.bench.torch_messages import CostsOrder, decode_order, encode_order
from shortstack.commands.info import describe
from shortstack.plan import StackConfig, base_environment

VARIABLE = "SHORTSTACK_MODEL__EXIT_ADAPTERS"


def test_info_shows_exit_adapters_where_there_are_some() -> None:
    info = pb.GetVerifyInfoResponse()
    assert "exit adapters" not in describe(info)
    info.exit_adapters.CopyFrom(pb.ExitAdaptersInfo(rank=64, exit_layers=[2, 4]))
    assert describe(info)["exit adapters"] == "rank 64, at exits 2, 4"


@pytest.mark.parametrize(
    ("wish", "told"),
    [(None, None), ("auto", "auto"), ("off", "off"), ("here", str(Path.cwd() / "here"))],
)
def test_workers_are_told_which_adapters(wish: str | None, told: str | None) -> None:
    env = base_environment(StackConfig(Path("/models/tiny"), exit_adapters=wish), {})
    assert env.get(VARIABLE) == told


def test_costs_are_measured_with_what_the_workers_draft_with() -> None:
    order = CostsOrder((2, 4), 6, draft_vocab="/a/vocab.json", exit_adapters="off")
    assert decode_order(encode_order(order)) == order
