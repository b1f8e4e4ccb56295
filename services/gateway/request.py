"""One request of a client as a value, checked.

Every fault is an `InvalidRequest` that names its field. What only a cell can judge (methods, exit
layers) passes as it is. Knows nothing of cells, text or calls.
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.gateway.chat import ROLES, ChatTurn
from services.gateway.tokenizer import ModelLimits
from shared.control.fair_queue import Priority
from shared.errors import ContextExceeded, InvalidRequest, ModelNotFound, NotAllowed
from shared.ids import RequestId, new_request_id
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import (
    mode_from_proto,
    priority_from_proto,
    sampling_from_proto,
    session_key_from_proto,
    task_label_from_proto,
    tenant_from_proto,
)
from shared.speculation.vocabulary import SamplingParams

MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARS = 1024
MAX_LOGPROBS = 20
MAX_ID_CHARS = 128

Prompt = str | tuple[int, ...] | tuple[ChatTurn, ...]


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What a request may ask for, by the model and by the settings."""

    model_name: str
    model: ModelLimits
    default_max_new_tokens: int
    max_new_tokens: int
    max_prompt_len: int = 0
    # Whose request it is, whatever it says; None: it names its tenant itself.
    tenant: str | None = None
    priorities: tuple[Priority, ...] = (Priority.NORMAL, Priority.LOW)

    @property
    def scope(self) -> str:
        """Among whose requests an id must be the only one, and by whom it may be ended."""
        return self.tenant or ""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """One request. Its limit of new tokens is final only once the prompt's length is known."""

    request_id: RequestId
    model_name: str
    prompt: Prompt
    sampling: SamplingParams
    max_new_tokens: int
    min_new_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    stop_strings: tuple[str, ...] = ()
    num_logprobs: int | None = None
    # For the cell; the gateway reads nothing of it.
    speculation: pb.SpeculationParams | None = None
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    session_key: str = ""
    # The client's label of the kind of text.
    task: str = ""

    @property
    def is_chat(self) -> bool:
        """Whether the prompt is a conversation."""
        return bool(self.prompt) and isinstance(self.prompt[0], ChatTurn)


def check_request(message: pb.GenerateTextRequest, limits: RequestLimits) -> TextRequest:
    """Read a request.

    Where there is sampling and no seed was given, a random one is drawn.

    Raises:
        InvalidRequest: a field is out of range.
        ModelNotFound: another model is asked for.
        NotAllowed: the caller may not run it for this tenant, or with this priority.
    """
    check_model(message.model, limits)
    return TextRequest(
        request_id=_request_id_of(message),
        model_name=limits.model_name,
        prompt=_prompt_of(message, limits.model),
        sampling=_sampling_of(message, limits.model),
        max_new_tokens=_max_new_tokens_of(message.stop, limits),
        min_new_tokens=message.stop.min_new_tokens,
        stop_token_ids=check_ids(message.stop.stop_token_ids, limits.model, "stop.stop_token_ids"),
        ignore_eos=message.stop.ignore_eos,
        stop_strings=_stop_strings_of(message),
        num_logprobs=_num_logprobs_of(message),
        speculation=_speculation_of(message),
        tenant=_tenant_of(message, limits),
        priority=_priority_of(message, limits),
        session_key=session_key_from_proto(message.session_key),
        task=task_label_from_proto(message.task, "task"),
    )


def check_model(name: str, limits: RequestLimits) -> None:
    """Refuse another model than the one served; empty takes that one.

    Raises:
        ModelNotFound: another one is named.
    """
    served = limits.model_name
    if name not in ("", served):
        raise ModelNotFound(f"model {name!r} is not served; {served!r} is", field="model")


def fit_to_context(request: TextRequest, prompt_len: int, limits: RequestLimits) -> TextRequest:
    """Fix the limit of new tokens: as asked for, or the default as far as the context allows.

    Raises:
        ContextExceeded: prompt and new tokens do not fit; the lengths are named.
        InvalidRequest: there is no prompt, or fewer new tokens are allowed than are asked for.
    """
    max_context_len = limits.model.max_context_len
    max_prompt_len = limits.max_prompt_len or max_context_len
    _check(prompt_len > 0, "prompt", "must not be empty")
    _check(
        prompt_len <= max_prompt_len and prompt_len < max_context_len,
        "prompt",
        f"has {prompt_len} tokens; at most {min(max_prompt_len, max_context_len - 1)} are taken",
        ContextExceeded,
    )
    num_left = max_context_len - prompt_len
    wanted = request.max_new_tokens or min(limits.default_max_new_tokens, num_left)
    _check(
        wanted <= num_left,
        "stop.max_new_tokens",
        f"is {wanted} behind a prompt of {prompt_len} tokens; the context holds {max_context_len}",
        ContextExceeded,
    )
    _check(
        request.min_new_tokens <= wanted,
        "stop.min_new_tokens",
        f"is {request.min_new_tokens}, more than the limit of {wanted} new tokens",
    )
    if wanted == request.max_new_tokens:
        return request
    return replace(request, max_new_tokens=wanted)


def _check(
    holds: bool, field: str, message: str, error: type[InvalidRequest] = InvalidRequest
) -> None:
    if not holds:
        raise error(f"{field} {message}", field=field)


def _tenant_of(message: pb.GenerateTextRequest, limits: RequestLimits) -> str:
    tenant = tenant_from_proto(message.tenant)
    if limits.tenant is None:
        return tenant
    if tenant not in ("", limits.tenant):
        raise NotAllowed(
            f"the API key is of tenant {limits.tenant!r}; it may not call for {tenant!r}",
            field="tenant",
        )
    return limits.tenant


def _priority_of(message: pb.GenerateTextRequest, limits: RequestLimits) -> Priority:
    priority = priority_from_proto(message.priority)
    if priority in limits.priorities:
        return priority
    if message.priority == pb.PRIORITY_UNSPECIFIED:
        return limits.priorities[0]
    raise NotAllowed(
        f"the API key may not use the priority {priority.name.lower()}", field="priority"
    )


def _request_id_of(message: pb.GenerateTextRequest) -> RequestId:
    request_id = message.request_id
    # It travels as metadata and stands in logs.
    _check(
        len(request_id) <= MAX_ID_CHARS and request_id.isascii() and request_id.isprintable(),
        "request_id",
        f"must be at most {MAX_ID_CHARS} printable ASCII characters",
    )
    return RequestId(request_id) if request_id else new_request_id()


def _prompt_of(message: pb.GenerateTextRequest, limits: ModelLimits) -> Prompt:
    kind = message.WhichOneof("input")
    if kind == "prompt":
        _check(bool(message.prompt), "prompt", "must not be empty")
        return message.prompt
    if kind == "token_ids":
        _check(bool(message.token_ids.ids), "token_ids", "must not be empty")
        return check_ids(message.token_ids.ids, limits, "token_ids")
    _check(kind == "chat", "prompt", "is missing; send prompt, token_ids or chat")
    return check_turns(message.chat)


def check_turns(chat: pb.ChatMessages) -> tuple[ChatTurn, ...]:
    """Read the turns of a chat.

    Raises:
        InvalidRequest: there is none, or a role is not known.
    """
    _check(bool(chat.messages), "chat", "must not be empty")
    for turn in chat.messages:
        _check(turn.role in ROLES, "chat.role", f"{turn.role!r} is none of {', '.join(ROLES)}")
    return tuple(ChatTurn(turn.role, turn.content) for turn in chat.messages)


def check_ids(ids: Iterable[int], limits: ModelLimits, field: str) -> tuple[int, ...]:
    """Read token ids.

    Raises:
        InvalidRequest: one of them is not in the vocabulary; names the field.
    """
    values = tuple(ids)
    highest = max(values, default=0)
    _check(
        highest < limits.vocab_size,
        field,
        f"holds {highest}; the vocabulary has {limits.vocab_size} ids",
    )
    return values


def _sampling_of(message: pb.GenerateTextRequest, limits: ModelLimits) -> SamplingParams:
    sampling = sampling_from_proto(message.sampling, limits.vocab_size)
    if sampling.is_greedy or message.sampling.HasField("seed"):
        return sampling
    return replace(sampling, seed=secrets.randbits(64))


def _max_new_tokens_of(stop: pb.StopParams, limits: RequestLimits) -> int:
    _check(
        stop.max_new_tokens <= limits.max_new_tokens,
        "stop.max_new_tokens",
        f"is {stop.max_new_tokens}; at most {limits.max_new_tokens} may be asked for",
    )
    return stop.max_new_tokens


def _stop_strings_of(message: pb.GenerateTextRequest) -> tuple[str, ...]:
    stop_strings = tuple(message.stop_strings)
    _check(
        len(stop_strings) <= MAX_STOP_STRINGS,
        "stop_strings",
        f"has {len(stop_strings)} entries; at most {MAX_STOP_STRINGS} are taken",
    )
    for stop_string in stop_strings:
        _check(bool(stop_string), "stop_strings", "must not hold an empty string")
        _check(
            len(stop_string) <= MAX_STOP_STRING_CHARS,
            "stop_strings",
            f"holds one longer than {MAX_STOP_STRING_CHARS} characters",
        )
    return stop_strings


def _num_logprobs_of(message: pb.GenerateTextRequest) -> int | None:
    if not message.HasField("num_logprobs"):
        return None
    _check(
        message.num_logprobs <= MAX_LOGPROBS,
        "num_logprobs",
        f"is {message.num_logprobs}; at most {MAX_LOGPROBS} alternatives are sent",
    )
    return message.num_logprobs


def _speculation_of(message: pb.GenerateTextRequest) -> pb.SpeculationParams | None:
    if not message.HasField("speculation"):
        return None
    speculation = message.speculation
    mode_from_proto(speculation.mode)
    for name in ("stop_threshold", "tree_threshold"):
        if speculation.HasField(name):
            is_share = 0 <= getattr(speculation, name) <= 1
            _check(is_share, f"speculation.{name}", "must lie in [0, 1]")
    return speculation
