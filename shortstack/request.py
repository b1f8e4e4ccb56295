"""What a client asks for, as plain values, and how it is written on the wire.

Knows nothing of channels or answers. Absent options take the server's or the cell's defaults.
"""

from dataclasses import dataclass, field

from shared.control.fair_queue import Priority
from shared.ids import RequestId, new_request_id
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import PRIORITY_ON_WIRE, sampling_to_proto
from shared.speculation.vocabulary import SamplingParams


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat; role is `system`, `user` or `assistant`."""

    role: str
    content: str


Prompt = str | tuple[int, ...] | tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends. `max_new_tokens` counts emitted tokens."""

    max_new_tokens: int = 256
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Speculation:
    """Wishes about speculation; they change the time an answer takes, never its text.

    `mode` is `auto` (the server may shed it under load), `off`, or `force` (never shed). With
    `tree_nodes` drafts branch: so many draft tokens in all, at most `tree_width` behind a token,
    more than one only where the draft is less sure than `tree_threshold`; the policy is `static`.
    """

    method: str = ""
    exit_layer: int | None = None
    max_draft_len: int | None = None
    stop_threshold: float | None = None
    policy: str = ""
    mode: str = ""
    tree_nodes: int | None = None
    tree_width: int | None = None
    tree_threshold: float | None = None


PLAIN = Speculation(method="off")


def pinned(exit_layer: int, draft_len: int, stop_threshold: float = 0.0) -> Speculation:
    """Return wishes that hold whatever the load: for measuring and checking."""
    return Speculation(
        "layerskip", exit_layer, draft_len, stop_threshold, policy="static", mode="force"
    )


@dataclass(frozen=True, slots=True)
class Request:
    """One request: text, token ids or chat turns, and how to go on from them.

    session_key names a conversation of several requests, task a kind of text: both only help the
    server to learn how to draft.
    """

    prompt: Prompt
    sampling: SamplingParams = field(default_factory=SamplingParams)
    limits: Limits = field(default_factory=Limits)
    speculation: Speculation = field(default_factory=Speculation)
    model: str = ""
    request_id: RequestId = field(default_factory=new_request_id)
    num_logprobs: int | None = None
    timeout_s: float = 300.0
    tenant: str = ""
    priority: Priority = Priority.NORMAL
    session_key: str = ""
    task: str = ""

    def to_proto(self) -> pb.GenerateTextRequest:
        """Write the request."""
        message = pb.GenerateTextRequest(
            request_id=self.request_id,
            model=self.model,
            sampling=sampling_to_proto(self.sampling),
            stop=_stop_to_proto(self.limits),
            stop_strings=self.limits.stop_strings,
            speculation=_speculation_to_proto(self.speculation),
            num_logprobs=self.num_logprobs,
            tenant=self.tenant,
            priority=PRIORITY_ON_WIRE[self.priority],
            session_key=self.session_key,
            task=self.task,
        )
        _set_input(message, self.prompt)
        return message


def _set_input(message: pb.GenerateTextRequest, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        message.prompt = prompt
        return
    turns = [turn for turn in prompt if isinstance(turn, Turn)]
    ids = [token for token in prompt if isinstance(token, int)]
    if turns:
        chat = [pb.ChatMessage(role=turn.role, content=turn.content) for turn in turns]
        message.chat.CopyFrom(pb.ChatMessages(messages=chat))
    else:
        message.token_ids.CopyFrom(pb.TokenIds(ids=ids))


def _stop_to_proto(limits: Limits) -> pb.StopParams:
    return pb.StopParams(
        max_new_tokens=limits.max_new_tokens,
        stop_token_ids=limits.stop_token_ids,
        ignore_eos=limits.ignore_eos,
        min_new_tokens=limits.min_new_tokens,
    )


def _speculation_to_proto(speculation: Speculation) -> pb.SpeculationParams:
    return pb.SpeculationParams(
        method=speculation.method,
        exit_layer=speculation.exit_layer,
        max_draft_len=speculation.max_draft_len,
        stop_threshold=speculation.stop_threshold,
        policy=speculation.policy,
        mode=speculation.mode,
        tree_nodes=speculation.tree_nodes,
        tree_width=speculation.tree_width,
        tree_threshold=speculation.tree_threshold,
    )
