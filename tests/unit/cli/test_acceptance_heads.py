"""What the command line says of acceptance heads, and is told of them."""

from pathlib import Path

import pytest

from shared.rpc import shortstack_pb2 as pb
from shortstack.commands.info import describe
from shortstack.plan import StackConfig, base_environment

VARIABLE = "SHORTSTACK_MODEL__ACCEPTANCE_HEADS"


def test_info_shows_acceptance_heads_where_there_are_some() -> None:
    info = pb.GetVerifyInfoResponse()
    assert "acceptance heads" not in describe(info)
    info.acceptance_heads.CopyFrom(pb.AcceptanceHeadsInfo(width=32, exit_layers=[2, 4]))
    assert describe(info)["acceptance heads"] == "width 32, at exits 2, 4"


@pytest.mark.parametrize(
    ("wish", "told"),
    [(None, None), ("auto", "auto"), ("off", "off"), ("here", str(Path.cwd() / "here"))],
)
def test_workers_are_told_which_heads(wish: str | None, told: str | None) -> None:
    env = base_environment(StackConfig(Path("/models/tiny"), acceptance_heads=wish), {})
    assert env.get(VARIABLE) == told
