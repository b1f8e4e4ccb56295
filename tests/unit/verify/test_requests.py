"""Requests as a table: what is refused names its field, what is left out takes the default."""

from dataclasses import replace
from typing import Any

import pytest

from services.verify.requests import MAX_LOGPROBS, RequestRules, read_request
from shared.control.fair_queue import Priority
from shared.errors import InvalidRequest
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.arm import arm_of
from shared.speculation.vocabulary import (
    KANGAROO,
    LAYERSKIP,
    OFF,
    PLAIN_DECISION,
    SWIFT,
    Decision,
    ModelIdentity,
    SamplingParams,
    TreeBudget,
)

NUM_LAYERS, VOCAB_SIZE, CONTEXT_LEN = 4, 50, 32
IDENTITY = ModelIdentity(
    "tiny", "f" * 32, "llama", "float32", NUM_LAYERS, 64, VOCAB_SIZE, CONTEXT_LEN, (2, 7)
)
RULES = RequestRules(IDENTITY, Decision(LAYERSKIP, 1, 4, 0.25), max_draft_len=8)
NAN = float("nan")


def make(**fields: Any) -> pb.GenerateRequest:
    """Return a sound request with some fields changed."""
    message = pb.GenerateRequest(
        session_id="s", token_ids=[5, 6, 7], stop=pb.StopParams(max_new_tokens=9)
    )
    for name, value in fields.items():
        message.ClearField(name)  # type: ignore[arg-type]
        message.MergeFrom(pb.GenerateRequest(**{name: value}))
    return message


BAD: list[tuple[dict[str, Any], str]] = [
    ({"session_id": ""}, "session_id"),
    ({"token_ids": []}, "token_ids"),
    ({"token_ids": [5, VOCAB_SIZE]}, "token_ids"),
    ({"token_ids": [2**32 - 1]}, "token_ids"),
    ({"token_ids": [5] * CONTEXT_LEN}, "token_ids"),
    ({"num_emitted": 3}, "num_emitted"),
    ({"stop": pb.StopParams()}, "stop.max_new_tokens"),
    ({"num_emitted": 2, "stop": pb.StopParams(max_new_tokens=2)}, "stop.max_new_tokens"),
    ({"num_logprobs": MAX_LOGPROBS + 1}, "num_logprobs"),
    ({"tenant": "x" * 65}, "tenant"),
    ({"tenant": "tab\tulator"}, "tenant"),
    ({"priority": 3}, "priority"),
    ({"session_key": "x" * 129}, "session_key"),
    ({"session_key": "tab\tulator"}, "session_key"),
    ({"task_key": "x" * 65}, "task_key"),
    ({"speculation": pb.SpeculationParams(mode="on")}, "speculation.mode"),
    ({"sampling": pb.SamplingParams(temperature=-0.1)}, "sampling.temperature"),
    ({"sampling": pb.SamplingParams(temperature=101)}, "sampling.temperature"),
    ({"sampling": pb.SamplingParams(temperature=NAN)}, "sampling.temperature"),
    ({"sampling": pb.SamplingParams(top_p=0.0)}, "sampling.top_p"),
    ({"sampling": pb.SamplingParams(top_p=1.1)}, "sampling.top_p"),
    ({"sampling": pb.SamplingParams(top_p=NAN)}, "sampling.top_p"),
    ({"sampling": pb.SamplingParams(min_p=-0.1)}, "sampling.min_p"),
    ({"sampling": pb.SamplingParams(min_p=1.5)}, "sampling.min_p"),
    ({"sampling": pb.SamplingParams(repetition_penalty=0.0)}, "sampling.repetition_penalty"),
    ({"sampling": pb.SamplingParams(repetition_penalty=-1)}, "sampling.repetition_penalty"),
    ({"sampling": pb.SamplingParams(presence_penalty=2.5)}, "sampling.presence_penalty"),
    ({"sampling": pb.SamplingParams(frequency_penalty=-2.5)}, "sampling.frequency_penalty"),
    ({"sampling": pb.SamplingParams(logit_bias={VOCAB_SIZE: 1.0})}, "sampling.logit_bias"),
    ({"sampling": pb.SamplingParams(logit_bias={5: float("inf")})}, "sampling.logit_bias"),
    ({"speculation": pb.SpeculationParams(method="magic")}, "speculation.method"),
    ({"speculation": pb.SpeculationParams(exit_layer=0)}, "speculation.exit_layer"),
    ({"speculation": pb.SpeculationParams(exit_layer=NUM_LAYERS)}, "speculation.exit_layer"),
    ({"speculation": pb.SpeculationParams(exit_layer=NUM_LAYERS + 1)}, "speculation.exit_layer"),
    ({"speculation": pb.SpeculationParams(max_draft_len=9)}, "speculation.max_draft_len"),
    ({"speculation": pb.SpeculationParams(stop_threshold=1.5)}, "speculation.stop_threshold"),
    ({"speculation": pb.SpeculationParams(stop_threshold=NAN)}, "speculation.stop_threshold"),
    ({"speculation": pb.SpeculationParams(tree_width=2)}, "speculation.tree_nodes"),
    ({"speculation": pb.SpeculationParams(tree_nodes=0)}, "speculation.tree_nodes"),
    ({"speculation": pb.SpeculationParams(tree_nodes=9)}, "speculation.tree_nodes"),
    (
        {"speculation": pb.SpeculationParams(tree_nodes=8, policy="goodput")},
        "speculation.tree_nodes",
    ),
    ({"speculation": pb.SpeculationParams(tree_nodes=8, tree_width=1)}, "speculation.tree_width"),
    ({"speculation": pb.SpeculationParams(tree_nodes=8, tree_width=17)}, "speculation.tree_width"),
    (
        {"speculation": pb.SpeculationParams(tree_nodes=8, tree_threshold=NAN)},
        "speculation.tree_threshold",
    ),
]


@pytest.mark.parametrize(("fields", "field"), BAD)
def test_a_bad_request_is_refused_and_its_field_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_request(make(**fields), RULES)
    assert caught.value.field == field


def test_a_policy_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest, match=r"oracle.*goodput.*static") as caught:
        read_request(make(speculation=pb.SpeculationParams(policy="oracle")), RULES)
    assert caught.value.field == "speculation.policy"


GOODPUT_RULES = replace(RULES, policy="goodput", exits=(1, 2))


def test_who_says_nothing_gets_the_worker_s_policy_and_its_exits() -> None:
    found = read_request(make(), GOODPUT_RULES)
    assert (found.policy, found.arms) == ("goodput", (1, 2))
    assert found.wished == Decision(LAYERSKIP, 1, 8, 0.25, "policy")


def test_drafts_go_by_chances_where_goodput_may_stop_them() -> None:
    rules = replace(GOODPUT_RULES, defaults=replace(RULES.defaults, stop_threshold=0.0))
    assert read_request(make(), rules).wished.by_chance
    # A threshold is one of confidences, and so is whatever else goes by them.
    assert not read_request(make(), GOODPUT_RULES).wished.by_chance
    for speculation in (
        pb.SpeculationParams(policy="del"),
        pb.SpeculationParams(policy="goodput", stop_threshold=0.5),
        pb.SpeculationParams(exit_layer=2),
    ):
        assert not read_request(make(speculation=speculation), rules).wished.by_chance


@pytest.mark.parametrize(
    "setting", [{"exit_layer": 2}, {"max_draft_len": 3}, {"stop_threshold": 0.5}], ids=str
)
def test_who_names_a_setting_wants_that_setting(setting: dict[str, float]) -> None:
    speculation = pb.SpeculationParams(**setting)  # type: ignore[arg-type]
    found = read_request(make(speculation=speculation), GOODPUT_RULES)
    assert (found.policy, found.arms) == ("static", ())
    assert found.wished.reason == "pinned"


def test_a_policy_keeps_to_the_settings_named_beside_it() -> None:
    speculation = pb.SpeculationParams(policy="goodput", exit_layer=2, max_draft_len=3)
    found = read_request(make(speculation=speculation), GOODPUT_RULES)
    assert (found.policy, found.arms) == ("goodput", (2,))
    assert found.wished == Decision(LAYERSKIP, 2, 3, 0.25, "policy")


ARM_RULES = replace(GOODPUT_RULES, adapter_layers=(2,), methods=(LAYERSKIP, KANGAROO))


@pytest.mark.parametrize(
    ("fields", "arms"),
    [
        ({}, (1, 2, arm_of(KANGAROO, 2))),
        ({"method": KANGAROO}, (arm_of(KANGAROO, 2),)),
        ({"method": LAYERSKIP}, (1, 2)),
        ({"policy": "del"}, (1, 2)),
    ],
    ids=str,
)
def test_methods_are_arms_beside_exits_unless_one_is_named(
    fields: dict[str, str], arms: tuple[int, ...]
) -> None:
    speculation = pb.SpeculationParams(**fields)  # type: ignore[arg-type]
    assert read_request(make(speculation=speculation), ARM_RULES).arms == arms


def test_a_method_that_the_cell_cannot_run_is_no_arm() -> None:
    rules = replace(ARM_RULES, adapter_layers=())
    assert read_request(make(), rules).arms == (1, 2)


def test_forced_speculation_is_static_and_off_is_off_whatever_the_policy() -> None:
    forced = read_request(make(speculation=pb.SpeculationParams(mode="force")), GOODPUT_RULES)
    assert (forced.policy, forced.is_pinned, forced.wished.max_draft_len) == ("static", True, 4)
    off = read_request(
        make(speculation=pb.SpeculationParams(mode="off", policy="goodput")), GOODPUT_RULES
    )
    assert off.wished.is_off


def test_what_is_left_out_takes_the_defaults() -> None:
    found = read_request(make(), RULES)
    assert found.sampling == SamplingParams()
    assert found.wished == Decision(LAYERSKIP, 1, 4, 0.25, "pinned")
    assert (found.num_emitted, found.num_logprobs) == (0, None)
    assert found.stop.stop_token_ids == {2, 7}
    assert (found.stop.max_new_tokens, found.stop.min_new_tokens) == (9, 0)


@pytest.mark.parametrize(
    ("stop", "ids"),
    [
        (pb.StopParams(max_new_tokens=1, stop_token_ids=[9]), {2, 7, 9}),
        (pb.StopParams(max_new_tokens=1, stop_token_ids=[9], ignore_eos=True), {9}),
        (pb.StopParams(max_new_tokens=1, ignore_eos=True), set()),
    ],
)
def test_end_ids_of_the_model_stop_a_session_unless_ignored(
    stop: pb.StopParams, ids: set[int]
) -> None:
    assert read_request(make(stop=stop), RULES).stop.stop_token_ids == ids


@pytest.mark.parametrize(
    ("wish", "decision"),
    [
        (pb.SpeculationParams(method="off", exit_layer=99), PLAIN_DECISION),
        (pb.SpeculationParams(exit_layer=3), Decision(LAYERSKIP, 3, 4, 0.25, "pinned")),
        (pb.SpeculationParams(max_draft_len=8), Decision(LAYERSKIP, 1, 8, 0.25, "pinned")),
        (pb.SpeculationParams(stop_threshold=0), Decision(LAYERSKIP, 1, 4, 0.0, "pinned")),
        (pb.SpeculationParams(policy="static"), Decision(LAYERSKIP, 1, 4, 0.25, "pinned")),
    ],
)
def test_wishes_about_speculation_replace_defaults_one_by_one(
    wish: pb.SpeculationParams, decision: Decision
) -> None:
    assert read_request(make(speculation=wish), RULES).wished == decision


def test_a_tree_is_what_was_asked_with_defaults_for_the_rest() -> None:
    wish = pb.SpeculationParams(tree_nodes=8)
    assert read_request(make(speculation=wish), RULES).wished.tree == TreeBudget(8)
    wish = pb.SpeculationParams(tree_nodes=6, tree_width=3, tree_threshold=0.5)
    assert read_request(make(speculation=wish), RULES).wished == Decision(
        LAYERSKIP, 1, 4, 0.25, "pinned", TreeBudget(6, 3, 0.5)
    )


def test_a_comb_of_swift_is_as_wide_as_published_unless_it_is_said() -> None:
    wish = pb.SpeculationParams(method=SWIFT, tree_nodes=8)
    request = read_request(make(speculation=wish), replace(RULES, policy="goodput"))
    assert (request.policy, request.wished.tree) == ("static", TreeBudget(8, 10, 0.95))
    wish = pb.SpeculationParams(method=SWIFT, tree_nodes=8, tree_width=3, tree_threshold=0.5)
    assert read_request(make(speculation=wish), RULES).wished.tree == TreeBudget(8, 3, 0.5)


def test_a_draft_length_of_zero_is_off() -> None:
    wish = pb.SpeculationParams(max_draft_len=0)
    assert read_request(make(speculation=wish), RULES).wished.is_off


def test_a_cell_that_is_off_by_default_still_speculates_where_it_is_asked_to() -> None:
    rules = RequestRules(IDENTITY, Decision(OFF, 1, 4), max_draft_len=8)
    assert read_request(make(), rules).wished == PLAIN_DECISION
    wish = pb.SpeculationParams(method=LAYERSKIP)
    assert read_request(make(speculation=wish), rules).wished == Decision(
        LAYERSKIP, 1, 4, 0.0, "pinned"
    )


def test_the_own_log_probability_alone_is_zero_alternatives() -> None:
    assert read_request(make(num_logprobs=0), RULES).num_logprobs == 0


def test_who_asks_and_how_urgently_is_read() -> None:
    plain = read_request(make(), RULES)
    assert (plain.tenant, plain.priority, plain.is_pinned) == ("", Priority.NORMAL, False)
    given = read_request(make(tenant="ann", priority=pb.PRIORITY_LOW), RULES)
    assert (given.tenant, given.priority) == ("ann", Priority.LOW)


def test_the_mode_says_whether_a_session_speculates_and_whether_that_may_be_shed() -> None:
    def read(**fields: Any) -> tuple[Decision, bool]:
        request = read_request(make(speculation=pb.SpeculationParams(**fields)), RULES)
        return request.wished, request.is_pinned

    wished, is_pinned = read(mode="auto")
    assert (wished.method, is_pinned) == (LAYERSKIP, False)
    wished, is_pinned = read(mode="force", max_draft_len=2)
    assert (wished.max_draft_len, is_pinned) == (2, True)
    assert read(mode="off", method=LAYERSKIP) == (PLAIN_DECISION, False)


# --- kangaroo -------------------------------------------------------------------------------------

ADAPTED = replace(RULES, adapter_layers=(1, 3), policy="goodput", exits=(1, 2))


def kangaroo(**fields: Any) -> pb.GenerateRequest:
    """Return a request that names the method."""
    return make(speculation=pb.SpeculationParams(method=KANGAROO, **fields))


def test_kangaroo_drafts_at_its_first_adapter_with_its_own_defaults() -> None:
    for fields in ({}, {"exit_layer": 0}):
        request = read_request(kangaroo(mode="force", **fields), ADAPTED)
        assert request.wished == Decision(KANGAROO, 1, 6, 0.6, "pinned")
    request = read_request(kangaroo(exit_layer=3, max_draft_len=2, stop_threshold=0.25), ADAPTED)
    assert request.wished == Decision(KANGAROO, 3, 2, 0.25, "pinned")


def test_kangaroo_may_be_planned_at_its_adapters_and_by_its_own_rounds_alone() -> None:
    request = read_request(kangaroo(), ADAPTED)
    assert (request.policy, request.arms) == ("goodput", (arm_of(KANGAROO, 1), arm_of(KANGAROO, 3)))
    named = read_request(kangaroo(exit_layer=3, policy="goodput"), ADAPTED)
    assert named.arms == (arm_of(KANGAROO, 3),)
    assert request.wished.max_draft_len == 6
    # Where the cell's policy goes by what exits say, kangaroo does as it says itself.
    assert read_request(kangaroo(), replace(ADAPTED, policy="del")).policy == "static"


@pytest.mark.parametrize(
    ("fields", "rules", "field", "message"),
    [
        ({}, RULES, "speculation.method", "train one with `shortstack train kangaroo`"),
        ({"exit_layer": 2}, ADAPTED, "speculation.exit_layer", "drafts at 1, 3"),
        ({"policy": "del"}, ADAPTED, "speculation.policy", "use one of goodput, static"),
    ],
    ids=["no adapter", "other exit", "policy of exits"],
)
def test_what_kangaroo_cannot_do_is_refused(
    fields: dict[str, Any], rules: RequestRules, field: str, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        read_request(kangaroo(**fields), rules)
    assert raised.value.field == field


def test_a_cell_that_drafts_by_kangaroo_takes_other_methods_too() -> None:
    rules = replace(ADAPTED, defaults=Decision(KANGAROO, 3, 5, 0.5), policy="static")
    assert read_request(make(), rules).wished == Decision(KANGAROO, 3, 5, 0.5, "pinned")
    named = make(speculation=pb.SpeculationParams(method=LAYERSKIP, exit_layer=2))
    assert read_request(named, rules).wished == Decision(LAYERSKIP, 2, 5, 0.5, "pinned")


def test_drafts_of_swift_are_long_sure_and_have_no_exit() -> None:
    rules = replace(RULES, max_draft_len=40)
    request = read_request(
        make(speculation=pb.SpeculationParams(method=SWIFT, policy="static")), rules
    )
    assert request.wished == Decision(SWIFT, 0, 25, 0.8, "pinned")
    shorter = read_request(
        make(speculation=pb.SpeculationParams(method=SWIFT, policy="static")), RULES
    )
    assert shorter.wished.max_draft_len == RULES.max_draft_len


@pytest.mark.parametrize(
    ("wish", "num_layers", "message"),
    [
        (pb.SpeculationParams(method=SWIFT, exit_layer=2), 4, "method swift has none"),
        (pb.SpeculationParams(method=SWIFT, policy="del"), 4, "use one of goodput, static"),
        (pb.SpeculationParams(method=SWIFT), 2, "a model of 2 has none"),
    ],
)
def test_what_swift_cannot_do_is_said(
    wish: pb.SpeculationParams, num_layers: int, message: str
) -> None:
    rules = replace(RULES, identity=replace(IDENTITY, num_layers=num_layers))
    with pytest.raises(InvalidRequest, match=message):
        read_request(make(speculation=wish), rules)
