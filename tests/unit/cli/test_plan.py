"""The plan of a local stack: which processes, with which environment."""

from pathlib import Path

import pytest

from shortstack.plan import (
    SPIN_COUNT,
    CellDefaults,
    CellKind,
    StackConfig,
    base_environment,
    plan_cell,
    plan_gateway,
)

RUNTIME = Path("/run/x/shortstack-abc")
MODEL = Path("/models/tiny")


def test_a_split_cell_has_two_workers_that_meet_at_a_socket() -> None:
    cell = plan_cell(1, StackConfig(MODEL), {}, RUNTIME)
    assert cell.draft is not None
    assert cell.draft.env["SHORTSTACK_DRAFT__LISTEN"] == cell.draft_target
    assert cell.verify.env["SHORTSTACK_VERIFY__DRAFT_TARGET"] == cell.draft_target
    assert cell.verify.env["SHORTSTACK_VERIFY__CELL_ID"] == "cell-1"
    assert cell.verify.env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert cell.verify.env["GOMP_SPINCOUNT"] == str(SPIN_COUNT)


@pytest.mark.parametrize("kind", [CellKind.FUSED, CellKind.PLAIN])
def test_other_cells_have_one_worker(kind: CellKind) -> None:
    cell = plan_cell(0, StackConfig(MODEL, cell_kind=kind), {}, RUNTIME)
    assert cell.draft is None
    assert cell.verify.env["SHORTSTACK_VERIFY__CELL_KIND"] == kind.value
    assert "SHORTSTACK_VERIFY__DRAFT_TARGET" not in cell.verify.env


def test_cells_on_a_registry_shared_with_others_have_names_of_their_own() -> None:
    config = StackConfig(MODEL, redis_url="redis://elsewhere")
    assert plan_cell(0, config, {}, RUNTIME).cell_id == "shortstack-abc-0"


def test_metrics_have_a_port_per_process_in_a_row() -> None:
    config = StackConfig(MODEL, metrics_port=9400)
    cells = [plan_cell(index, config, {}, RUNTIME) for index in range(2)]
    gateway = plan_gateway(config, {}, RUNTIME, cells)
    children = [gateway, *(child for cell in cells for child in (cell.verify, cell.draft) if child)]
    listens = [
        child.env[f"SHORTSTACK_{child.name.partition('-')[0].upper()}__METRICS_LISTEN"]
        for child in children
    ]
    assert [child.name for child in children] == [
        "gateway", "verify-0", "draft-0", "verify-1", "draft-1",
    ]  # fmt: skip
    assert listens == [f"127.0.0.1:{9400 + place}" for place in range(5)]
    assert not [name for name in plan_cell(0, StackConfig(MODEL), {}, RUNTIME).verify.env
                if "METRICS" in name]  # fmt: skip


def test_only_options_that_were_given_are_set() -> None:
    config = StackConfig(MODEL, defaults=CellDefaults(exit_layer=2))
    env = plan_cell(0, config, {"SHORTSTACK_VERIFY__DRAFT_LEN": "7"}, RUNTIME).verify.env
    assert env["SHORTSTACK_VERIFY__EXIT_LAYER"] == "2"
    assert env["SHORTSTACK_VERIFY__DRAFT_LEN"] == "7"
    assert "SHORTSTACK_VERIFY__METHOD" not in env


@pytest.mark.parametrize(
    ("defaults", "policy"),
    [
        (CellDefaults(), None),
        (CellDefaults(exit_layer=2), "static"),
        (CellDefaults(draft_len=0), "static"),
        (CellDefaults(exit_layer=2, policy="goodput"), "goodput"),
        (CellDefaults(policy="del"), "del"),
    ],
    ids=str,
)
def test_who_names_a_setting_and_no_policy_wants_that_setting(
    defaults: CellDefaults, policy: str | None
) -> None:
    env = plan_cell(0, StackConfig(MODEL, defaults=defaults), {}, RUNTIME).verify.env
    assert env.get("SHORTSTACK_VERIFY__POLICY") == policy


@pytest.mark.parametrize(
    ("wish", "told"),
    [(None, None), ("auto", "auto"), ("off", "off"), ("/a/vocab.json", "/a/vocab.json")],
)
def test_workers_are_told_which_draft_vocabulary(wish: str | None, told: str | None) -> None:
    env = base_environment(StackConfig(MODEL, draft_vocab=wish), {})
    assert env.get("SHORTSTACK_MODEL__DRAFT_VOCAB") == told


def test_a_draft_vocabulary_named_by_a_relative_path_is_found_from_any_folder() -> None:
    env = base_environment(StackConfig(MODEL, draft_vocab="vocab.json"), {})
    assert env["SHORTSTACK_MODEL__DRAFT_VOCAB"] == str(Path.cwd() / "vocab.json")


def test_the_users_environment_is_passed_on_but_for_the_command_lines_own() -> None:
    inherited = {
        "PATH": "/bin",
        "SHORTSTACK_TARGET": "somewhere",
        "SHORTSTACK_LOG__LEVEL": "DEBUG",
        "SHORTSTACK_MODEL__DTYPE": "bfloat16",
    }
    env = base_environment(StackConfig(MODEL, dtype="float32"), inherited)
    assert env["PATH"] == "/bin"
    assert env["SHORTSTACK_LOG__LEVEL"] == "DEBUG"
    assert env["SHORTSTACK_MODEL__DTYPE"] == "float32"
    assert env["SHORTSTACK_MODEL__PATH"] == str(MODEL)
    assert "SHORTSTACK_TARGET" not in env


def test_the_gateway_is_told_the_cells_only_where_there_is_no_registry() -> None:
    config = StackConfig(MODEL, num_cells=2)
    cells = [plan_cell(index, config, {}, RUNTIME) for index in range(2)]
    static = plan_gateway(config, {}, RUNTIME, cells).env
    assert static["SHORTSTACK_GATEWAY__CELLS"] == ",".join(cell.verify_target for cell in cells)
    with_registry = {"SHORTSTACK_REDIS__URL": "unix:///redis.sock"}
    env = plan_gateway(config, with_registry, RUNTIME, cells).env
    assert "SHORTSTACK_GATEWAY__CELLS" not in env


def test_the_gateway_serves_http_where_it_is_told_to_and_nowhere_else() -> None:
    inherited = {"SHORTSTACK_GATEWAY__HTTP_LISTEN": "127.0.0.1:8000"}
    for http in ("", "127.0.0.1:0"):
        env = plan_gateway(StackConfig(MODEL, http=http), inherited, RUNTIME, []).env
        assert env["SHORTSTACK_GATEWAY__HTTP_LISTEN"] == http


def test_socket_paths_stay_short_enough() -> None:
    cell = plan_cell(999, StackConfig(MODEL), {}, RUNTIME)
    assert len(cell.verify_target.removeprefix("unix:")) < 100
