"""Modes and the other options of the command line."""

from dataclasses import replace
from pathlib import Path

import pytest

from shortstack.bench.serve.command import (
    default_concurrency,
    default_sharing,
    parse_concurrency,
    parse_environ,
    parse_rates,
    parse_serve_peers,
    run_and_finish,
)
from shortstack.bench.serve.loops import Extent
from shortstack.bench.serve.modes import parse_modes
from shortstack.bench.serve.plan import PeerName, ServePlan
from shortstack.bench.serve.scenarios import SCENARIOS, ScenarioName
from shortstack.bench.serve.turns import Load, LoadKind, loads_of
from shortstack.bench.torch_peer import ModelChoice
from shortstack.errors import UsageError
from shortstack.plan import CellKind
from shortstack.request import PLAIN, Speculation
from tests.unit.bench.serve.builders import PROMPTS

PLAN = ServePlan(ModelChoice(Path("/models/tiny")), PROMPTS, concurrency=(1, 4), rates=(0.5,))


def test_modes_become_wishes_of_requests() -> None:
    auto, off, static = parse_modes("auto, off, static:E=2:d=4:t=0.3")
    assert auto.speculation == Speculation()
    assert off.speculation == PLAIN
    wished = static.speculation
    assert (wished.method, wished.policy) == ("layerskip", "static")
    assert (wished.exit_layer, wished.max_draft_len, wished.stop_threshold) == (2, 4, 0.3)
    assert static.name == "static:E=2:d=4:t=0.3"


def test_a_static_mode_is_never_shed() -> None:
    (static,) = parse_modes("static:E=2:d=4")
    assert static.speculation.mode == "force"
    assert static.speculation.stop_threshold == 0.0


@pytest.mark.parametrize(
    "text",
    ["", "fast", "auto,auto", "static", "static:E=2", "static:E=2:d=x", "static:E=2:d=4:z=1"],
)
def test_what_is_no_mode_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--modes"):
        parse_modes(text)


def test_peers_are_read_and_unknown_ones_refused() -> None:
    assert parse_serve_peers("hf, hf-continuous") == (PeerName.HF, PeerName.HF_CONTINUOUS)
    assert parse_serve_peers("") == ()
    with pytest.raises(UsageError, match="unknown vllm; there are hf-continuous, hf"):
        parse_serve_peers("vllm")


def test_loads_have_at_least_one_client_and_a_rate_above_zero() -> None:
    assert parse_concurrency("4,1,4") == (4, 1)
    assert parse_rates("0.5,2") == (0.5, 2.0)
    for parse, text in ((parse_concurrency, "0"), (parse_rates, "0"), (parse_rates, "nan")):
        with pytest.raises(UsageError, match="--"):
            parse(text)


def test_only_a_sweep_without_rates_has_default_clients() -> None:
    assert default_concurrency(ScenarioName.SWEEP, None, "") == "1,2,4,8,16,32"
    assert default_concurrency(ScenarioName.SWEEP, None, "1") == ""
    assert default_concurrency(ScenarioName.SOAK, None, "") == ""
    assert default_concurrency(ScenarioName.SOAK, "3", "") == "3"


def test_variables_of_the_stack_take_their_prefix() -> None:
    settings = ["VERIFY__MAX_SESSIONS=8", "SHORTSTACK_LOG__LEVEL=DEBUG"]
    assert parse_environ(settings) == {
        "SHORTSTACK_VERIFY__MAX_SESSIONS": "8",
        "SHORTSTACK_LOG__LEVEL": "DEBUG",
    }
    with pytest.raises(UsageError, match="--set"):
        parse_environ(["VERIFY__MAX_SESSIONS"])


def test_a_load_that_would_never_stand_is_refused() -> None:
    assert PLAN.extent_of(4) == Extent(16)
    assert PLAN.extent_of(1) == Extent(12)
    assert replace(PLAN, duration_s=5.0).extent_of(4) == Extent(None, 5.0)
    with pytest.raises(UsageError, match="at least 8"):
        loads_of(replace(PLAN, num_requests=7))


def test_the_loads_are_the_closed_ones_then_the_open_ones() -> None:
    assert loads_of(PLAN) == [
        Load(LoadKind.CLOSED, 1),
        Load(LoadKind.CLOSED, 4),
        Load(LoadKind.OPEN, 0.5),
    ]
    assert str(Load(LoadKind.OPEN, 0.5)) == "0.5 requests/s"


def test_the_stack_is_of_the_kind_that_was_asked_for() -> None:
    plan = replace(PLAN, cell_kind=CellKind.FUSED, environ={"A": "b"}, shares_prefixes=True)
    config = plan.stack_config()
    assert (config.cell_kind, config.environ) == (CellKind.FUSED, {"A": "b"})


def test_a_sweep_computes_every_prompt_unless_told_otherwise() -> None:
    name = "SHORTSTACK_VERIFY__PREFIX_SHARING"
    assert not default_sharing(ScenarioName.SWEEP, None)
    assert default_sharing(ScenarioName.SWEEP, True)
    assert default_sharing(ScenarioName.NEXT_TURN, None)
    assert PLAN.stack_config().environ == {name: "off"}
    assert replace(PLAN, environ={name: "all"}).stack_config().environ == {name: "all"}


def test_every_scenario_is_there_and_only_the_sweep_has_a_picture(tmp_path: Path) -> None:
    assert set(SCENARIOS) == set(ScenarioName)
    with pytest.raises(UsageError, match="of the sweep"):
        run_and_finish(ScenarioName.SOAK, PLAN, False, None, tmp_path / "p.png", None)
