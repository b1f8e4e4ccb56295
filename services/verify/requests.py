"""Reads and checks a session's request: the earliest point at which this worker sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.verify.session import SessionRequest
from shared.control.evidence.evidence_book import READ_OUT_METHODS
from shared.control.policies.registry import GOODPUT, POLICY_NAMES
from shared.control.policies.static import NAME as STATIC
from shared.control.step_plan import LONGEST_PLANNED
from shared.errors import InvalidRequest
from shared.ids import SessionId, TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import (
    FORCE,
    NEVER,
    check_field,
    mode_from_proto,
    priority_from_proto,
    sampling_from_proto,
    session_key_from_proto,
    task_label_from_proto,
    tenant_from_proto,
)
from shared.speculation.arm import arm_in_use, arm_of
from shared.speculation.methods.base import DraftMeans
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import (
    LAYERSKIP,
    OFF,
    PLAIN_DECISION,
    Decision,
    ModelIdentity,
    StopParams,
    TreeBudget,
)

MAX_LOGPROBS = 20
# More siblings than this are hardly ever hit, and each costs a row.
MAX_TREE_WIDTH = 16
# Policies that learn of a method from its own rounds alone.
OWN_ROUNDS = (GOODPUT, STATIC)


@dataclass(frozen=True, slots=True)
class SpeculationWish:
    """What a session wishes of speculation.

    wished: its decision where nothing else decides; a policy's longest draft.
    arms: those that its policy may choose from; empty: the wished one alone.
    """

    wished: Decision
    policy: str = STATIC
    arms: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestRules:
    """What a request is checked against.

    exits: X, those that layerskip's drafts may be made at.
    methods: those that `goodput` chooses from where the request names none.
    """

    identity: ModelIdentity
    defaults: Decision
    max_draft_len: int
    policy: str = STATIC
    exits: tuple[int, ...] = ()
    adapter_layers: tuple[int, ...] = ()
    methods: tuple[str, ...] = (LAYERSKIP,)

    @property
    def means(self) -> DraftMeans:
        """What this cell's drafts can be made with."""
        return DraftMeans(self.identity.num_layers, self.adapter_layers)

    def arms_of(self, methods: Sequence[str]) -> tuple[int, ...]:
        """Return all arms of some methods, ascending; those that this cell cannot run have none."""
        arms = []
        for name in methods:
            method = method_named(name)
            if not method.fault(self.means):
                layers = method.exit_layers(self.exits, self.means)
                arms += [arm_of(name, layer) for layer in layers]
        return tuple(sorted(arms))


def read_request(message: pb.GenerateRequest, rules: RequestRules) -> SessionRequest:
    """Return the request as a value.

    Raises:
        InvalidRequest: a field is missing or out of range; names it.
    """
    identity = rules.identity
    if not message.session_id:
        raise InvalidRequest("session_id must not be empty", field="session_id")
    if not message.token_ids:
        raise InvalidRequest("token_ids must not be empty", field="token_ids")
    if max(message.token_ids) >= identity.vocab_size:
        raise InvalidRequest(
            f"token_ids holds {max(message.token_ids)}, the vocabulary ends at "
            f"{identity.vocab_size - 1}",
            field="token_ids",
        )
    if len(message.token_ids) >= identity.max_context_len:
        raise InvalidRequest(
            f"{len(message.token_ids)} tokens leave no room in the context of "
            f"{identity.max_context_len}",
            field="token_ids",
        )
    if message.num_emitted >= len(message.token_ids):
        raise InvalidRequest("num_emitted leaves no prompt", field="num_emitted")
    speculation = _read_speculation(message.speculation, rules)
    return SessionRequest(
        session_id=SessionId(message.session_id),
        token_ids=tuple(TokenId(token) for token in message.token_ids),
        num_emitted=message.num_emitted,
        sampling=sampling_from_proto(message.sampling, identity.vocab_size),
        stop=_read_stop(message, identity),
        wished=speculation.wished,
        policy=speculation.policy,
        arms=speculation.arms,
        num_logprobs=_read_num_logprobs(message),
        tenant=tenant_from_proto(message.tenant),
        priority=priority_from_proto(message.priority),
        is_pinned=message.speculation.mode == FORCE,
        session_key=session_key_from_proto(message.session_key),
        task_key=task_label_from_proto(message.task_key, "task_key"),
    )


def _read_stop(message: pb.GenerateRequest, identity: ModelIdentity) -> StopParams:
    stop = message.stop
    if stop.max_new_tokens <= message.num_emitted:
        raise InvalidRequest(
            f"stop.max_new_tokens {stop.max_new_tokens} must exceed the {message.num_emitted} "
            "tokens already emitted",
            field="stop.max_new_tokens",
        )
    ids = set(stop.stop_token_ids)
    if not stop.ignore_eos:
        ids |= set(identity.eos_token_ids)
    return StopParams(stop.max_new_tokens, frozenset(ids), stop.min_new_tokens)


def _read_speculation(message: pb.SpeculationParams, rules: RequestRules) -> SpeculationWish:
    mode = mode_from_proto(message.mode)
    method = message.method or rules.defaults.method
    policy = _read_policy(message, method, rules)
    if mode == NEVER or method == OFF:
        return SpeculationWish(PLAIN_DECISION)
    defaults = rules.defaults
    if method != defaults.method:
        defaults = method_named(method).complete(defaults, rules.means)
    is_chosen, is_read_out = policy != STATIC, method in READ_OUT_METHODS
    longest = min(defaults.max_draft_len, rules.max_draft_len)
    if is_chosen and is_read_out:
        # Who wants longer drafts says so.
        longest = min(LONGEST_PLANNED, rules.max_draft_len)
    # Adapters have their own exits, skip sets none: 0 is a way to leave it out.
    names_exit = message.HasField("exit_layer") and (is_read_out or message.exit_layer > 0)
    decision = Decision(
        method=method,
        exit_layer=message.exit_layer if names_exit else defaults.exit_layer,
        max_draft_len=message.max_draft_len if message.HasField("max_draft_len") else longest,
        stop_threshold=(
            message.stop_threshold
            if message.HasField("stop_threshold")
            else defaults.stop_threshold
        ),
        reason="policy" if is_chosen else "pinned",
        tree=_read_tree(message, rules, policy, method),
    )
    # Who wishes a threshold means confidences by it.
    if policy == GOODPUT and is_read_out and not decision.stop_threshold:
        decision = replace(decision, by_chance=True)
    method_named(method).check(decision, rules.means)
    if decision.max_draft_len > rules.max_draft_len:
        raise InvalidRequest(
            f"max_draft_len {decision.max_draft_len} exceeds this worker's {rules.max_draft_len}",
            field="speculation.max_draft_len",
        )
    if not 0 <= decision.stop_threshold <= 1:
        raise InvalidRequest(
            "stop_threshold must lie in [0, 1]", field="speculation.stop_threshold"
        )
    if not is_chosen:
        return SpeculationWish(decision)
    if names_exit:
        arms: tuple[int, ...] = (arm_in_use(decision),)
    elif message.method or policy != GOODPUT:
        arms = rules.arms_of([method])
    else:
        arms = rules.arms_of(rules.methods)
    return SpeculationWish(decision, policy, arms)


def _read_tree(
    message: pb.SpeculationParams, rules: RequestRules, policy: str, method: str
) -> TreeBudget | None:
    """Return how far drafts may branch.

    Raises:
        InvalidRequest: a field is out of range, or cannot be had.
    """
    names = ("tree_nodes", "tree_width", "tree_threshold")
    if not any(message.HasField(name) for name in names):
        return None
    check_field(
        message.HasField("tree_nodes"),
        "speculation.tree_nodes",
        "is missing: without it drafts are chains, which have no width and no threshold",
    )
    check_field(
        policy == STATIC,
        "speculation.tree_nodes",
        f"cannot be had with policy {policy!r}: only {STATIC!r} drafts what a request asks for",
    )
    tree = method_named(method).tree_of(message.tree_nodes)
    if message.HasField("tree_width"):
        tree = replace(tree, max_width=message.tree_width)
    if message.HasField("tree_threshold"):
        tree = replace(tree, branch_threshold=message.tree_threshold)
    check_field(
        1 <= tree.max_nodes <= rules.max_draft_len,
        "speculation.tree_nodes",
        f"is {tree.max_nodes}; it must lie in [1, {rules.max_draft_len}]",
    )
    check_field(
        2 <= tree.max_width <= MAX_TREE_WIDTH,
        "speculation.tree_width",
        f"is {tree.max_width}; it must lie in [2, {MAX_TREE_WIDTH}]",
    )
    check_field(0 <= tree.branch_threshold <= 1, "speculation.tree_threshold", "must lie in [0, 1]")
    return tree


def _read_policy(message: pb.SpeculationParams, method: str, rules: RequestRules) -> str:
    """Return the policy asked for; who names a setting and no policy wants that setting.

    Raises:
        InvalidRequest: there is no such policy, or it cannot judge the method.
    """
    if message.policy:
        if message.policy not in POLICY_NAMES:
            raise InvalidRequest(
                f"policy {message.policy!r} is not known; use one of {', '.join(POLICY_NAMES)}",
                field="speculation.policy",
            )
        if method not in (OFF, *READ_OUT_METHODS) and message.policy not in OWN_ROUNDS:
            raise InvalidRequest(
                f"policy {message.policy} goes by what exits say in passing, which tells nothing "
                f"of method {method}; use one of {', '.join(OWN_ROUNDS)}",
                field="speculation.policy",
            )
        return message.policy
    names_setting = any(
        message.HasField(name)
        for name in ("exit_layer", "max_draft_len", "stop_threshold", "tree_nodes")
    )
    if names_setting or message.mode == FORCE:
        return STATIC
    if method not in READ_OUT_METHODS and rules.policy not in OWN_ROUNDS:
        return STATIC
    return rules.policy


def _read_num_logprobs(message: pb.GenerateRequest) -> int | None:
    if not message.HasField("num_logprobs"):
        return None
    if message.num_logprobs > MAX_LOGPROBS:
        raise InvalidRequest(
            f"num_logprobs {message.num_logprobs} exceeds {MAX_LOGPROBS}", field="num_logprobs"
        )
    return message.num_logprobs
