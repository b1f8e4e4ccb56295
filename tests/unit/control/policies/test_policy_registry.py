"""The table of policies, and what holds for every one of them."""

import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from random import Random

import pytest

from shared.control.evidence.observation import Observation
from shared.control.policies.base import PolicyContext
from shared.control.policies.registry import (
    EVALUATED_ONLY,
    POLICY_NAMES,
    SESSION_POLICIES,
    make_baseline,
    make_policy,
)
from shared.errors import InvalidRequest
from shared.speculation.vocabulary import PLAIN_DECISION, Decision
from tests.unit.control.policies.samples import CONTEXT, DEFAULT, observed

PROGRAM = """
import pkgutil, sys
import shared.control.policies as policies
for each in pkgutil.iter_modules(policies.__path__, "shared.control.policies."):
    __import__(each.name)
import shared.control.threshold_replay, shared.control.session_guard
heavy = {"torch", "grpc", "redis", "numpy", "transformers"} & set(sys.modules)
assert not heavy, heavy
"""
NAMES = [*SESSION_POLICIES, *EVALUATED_ONLY]


def cost_ns(exit_layer: int, draft_len: int) -> float:
    return 100.0 + 3.0 * exit_layer * draft_len


WITH_COSTS = replace(CONTEXT, cost_ns=cost_ns)


def rounds_of(name: str, seed: int) -> list[Decision]:
    """Return what a policy decides along a random text, where nobody overrules it."""
    random = Random(seed)
    policy = make_baseline(name, WITH_COSTS)
    assert policy is not None
    decisions = []
    for _ in range(60):
        decision = policy.wish(DEFAULT)
        decisions.append(decision)
        num_drafted = 0 if decision.is_off else decision.max_draft_len
        num_accepted = min(num_drafted, int(random.expovariate(0.5)))
        bits = {
            exit_layer: "".join(random.choice("011") for _ in range(num_accepted + 1))
            for exit_layer in CONTEXT.exits
        }
        observation = observed(bits, random.random())
        before = deepcopy(observation)
        policy.note(decision, num_drafted, num_accepted, observation)
        assert observation == before
    return decisions


@pytest.mark.parametrize("name", NAMES)
def test_policies_know_their_names(name: str) -> None:
    policy = make_baseline(name, WITH_COSTS)
    assert policy is not None
    assert policy.name == name


def test_goodput_is_left_to_the_governor() -> None:
    assert make_policy("goodput", CONTEXT) is None
    assert make_baseline("goodput", CONTEXT) is None
    assert POLICY_NAMES[0] == "goodput"


@pytest.mark.parametrize("name", ["", "nosuch", "ucb"])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidRequest, match="use one of goodput, static, heuristic") as caught:
        make_policy(name, WITH_COSTS)
    assert caught.value.field == "speculation.policy"


def test_static_wishes_what_the_session_asked_for() -> None:
    policy = make_policy("static", CONTEXT)
    assert policy is not None
    assert policy.wish(DEFAULT) is DEFAULT
    assert not policy.wants_full_shadow


@pytest.mark.parametrize("name", NAMES)
def test_a_session_without_a_method_stays_plain(name: str) -> None:
    policy = make_baseline(name, WITH_COSTS)
    assert policy is not None
    assert policy.wish(PLAIN_DECISION) is PLAIN_DECISION


def test_del_alone_reads_every_exit_every_round() -> None:
    wanting = []
    for name in NAMES:
        policy = make_baseline(name, WITH_COSTS)
        if policy is not None and policy.wants_full_shadow:
            wanting.append(name)
    assert wanting == ["del", "del_threshold", "del_cost"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rounds_give_the_same_decisions(name: str) -> None:
    for seed in range(3):
        assert rounds_of(name, seed) == rounds_of(name, seed)


@pytest.mark.parametrize("name", NAMES)
def test_asking_twice_gives_the_same(name: str) -> None:
    policy = make_baseline(name, WITH_COSTS)
    assert policy is not None
    for _ in range(20):
        first, second = policy.wish(DEFAULT), policy.wish(DEFAULT)
        assert first == second
        num_drafted = 0 if first.is_off else first.max_draft_len
        policy.note(first, num_drafted, num_drafted, observed({8: "1" * (num_drafted + 1)}))


@pytest.mark.parametrize("name", NAMES)
def test_decisions_stay_within_the_context(name: str) -> None:
    for decision in rounds_of(name, 7):
        if not decision.is_off:
            assert decision.method == DEFAULT.method
            assert decision.exit_layer in CONTEXT.exits
            assert 1 <= decision.max_draft_len <= CONTEXT.max_draft_len
        assert 0.0 <= decision.stop_threshold <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_prompt_evidence_is_taken_by_all(name: str) -> None:
    policy = make_baseline(name, WITH_COSTS)
    assert policy is not None
    wished = policy.wish(DEFAULT)
    policy.note_prompt(observed({8: "1101"}))
    policy.note_prompt(Observation(0))
    assert policy.wish(DEFAULT) == wished


@pytest.mark.parametrize(
    ("exits", "num_layers", "max_draft_len", "message"),
    [
        ((), 8, 4, "exits must be given"),
        ((4, 2), 8, 4, "shallow first"),
        ((2, 2), 8, 4, "each once"),
        ((0, 2), 8, 4, "must lie in"),
        ((2, 8), 8, 4, "must lie in"),
        ((2, 4), 8, 0, "max_draft_len must be at least 1"),
    ],
)
def test_contexts_that_make_no_sense_are_refused(
    exits: tuple[int, ...], num_layers: int, max_draft_len: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyContext(exits, num_layers, DEFAULT, max_draft_len)


def test_a_fresh_process_that_imports_policies_loads_neither_torch_nor_grpc_nor_redis() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=30)
