"""From a body of the OpenAI API to requests of the gateway: one for each choice."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.http_face.bodies import (
    MAX_CHOICES,
    ChatBody,
    ChatTurnBody,
    CompletionOptions,
    TextBody,
)
from services.gateway.http_face.seeds import NUM_SEED_BITS, seed_of_choice
from services.gateway.request import RequestLimits, TextRequest, check_request
from shared.errors import InvalidRequest
from shared.ids import RequestId
from shared.rpc import shortstack_pb2 as pb

# OpenAI's. On the gRPC face an absent temperature is greedy.
DEFAULT_TEMPERATURE = 1.0
PRIORITIES = {None: pb.PRIORITY_UNSPECIFIED, "normal": pb.PRIORITY_NORMAL, "low": pb.PRIORITY_LOW}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what the answer does not depend on."""

    request_id: RequestId
    tenant: str


@dataclass(frozen=True, slots=True)
class ChoiceRequests:
    """The requests of a body's choices; those of prompt p are [p * n, (p + 1) * n)."""

    requests: Sequence[TextRequest]
    num_choices: int
    seed: int

    def prompt_index(self, index: int) -> int:
        """Return which prompt a choice goes on from."""
        return index // self.num_choices

    def is_first_of_prompt(self, index: int) -> bool:
        """Whether no choice before has the same prompt."""
        return index % self.num_choices == 0


def read_body(body: ChatBody | TextBody, caller: Caller, limits: RequestLimits) -> ChoiceRequests:
    """Return the requests that a body asks for.

    Raises:
        InvalidRequest: a field is out of range.
        ModelNotFound: another model is asked for.
    """
    prompts = [body.messages] if isinstance(body, ChatBody) else prompts_of(body)
    num_choices = body.n or 1
    total = num_choices * len(prompts)
    if total > MAX_CHOICES:
        raise InvalidRequest(
            f"n is {num_choices} for {len(prompts)} prompts; "
            f"at most {MAX_CHOICES} choices are made at once",
            field="n",
        )
    seed = body.seed % 2**NUM_SEED_BITS if body.seed is not None else _draw_seed()
    message = _message_of(body, caller)
    requests = []
    for index in range(total):
        _set_prompt(message, prompts[index // num_choices])
        message.request_id = caller.request_id + (f"-{index}" if total > 1 else "")
        message.sampling.seed = seed_of_choice(seed, index)
        requests.append(check_request(message, limits))
    return ChoiceRequests(requests, num_choices, seed)


def prompts_of(body: TextBody) -> Sequence[str | Sequence[int]]:
    """Return the prompts of a body, one or many.

    Raises:
        InvalidRequest: there is none.
    """
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("prompt must not be empty", field="prompt")
    if isinstance(prompt[0], int):
        return [[each for each in prompt if isinstance(each, int)]]
    return [each for each in prompt if not isinstance(each, int)]


def turns_of(turns: Sequence[ChatTurnBody]) -> pb.ChatMessages:
    """Return the turns of a chat as the gateway knows them."""
    return pb.ChatMessages(messages=[_turn_of(turn) for turn in turns])


def _turn_of(turn: ChatTurnBody) -> pb.ChatMessage:
    content = turn.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    # The newer name of the same.
    role = "system" if turn.role == "developer" else turn.role
    return pb.ChatMessage(role=role, content=text)


def _draw_seed() -> int:
    return secrets.randbits(NUM_SEED_BITS)


def _set_prompt(
    message: pb.GenerateTextRequest, prompt: Sequence[ChatTurnBody] | str | Sequence[int]
) -> None:
    if isinstance(prompt, str):
        message.prompt = prompt
    elif prompt and isinstance(prompt[0], ChatTurnBody):
        turns = [turn for turn in prompt if isinstance(turn, ChatTurnBody)]
        message.chat.CopyFrom(turns_of(turns))
    else:
        ids = [each for each in prompt if isinstance(each, int)]
        message.token_ids.CopyFrom(pb.TokenIds(ids=ids))


def _message_of(body: ChatBody | TextBody, caller: Caller) -> pb.GenerateTextRequest:
    return pb.GenerateTextRequest(
        model=body.model or "",
        sampling=_sampling_of(body),
        stop=pb.StopParams(
            max_new_tokens=_max_tokens_of(body),
            stop_token_ids=body.stop_token_ids,
            ignore_eos=body.ignore_eos or False,
            min_new_tokens=body.min_tokens or 0,
        ),
        stop_strings=[body.stop] if isinstance(body.stop, str) else body.stop,
        speculation=_speculation_of(body),
        num_logprobs=_num_logprobs_of(body),
        tenant=caller.tenant,
        priority=PRIORITIES[body.priority],
        session_key=body.session_key or "",
    )


def _sampling_of(body: CompletionOptions) -> pb.SamplingParams:
    temperature = DEFAULT_TEMPERATURE if body.temperature is None else body.temperature
    return pb.SamplingParams(
        temperature=temperature,
        # All tokens are -1 to some clients, 0 to others.
        top_k=max(0, body.top_k or 0),
        top_p=body.top_p,
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty,
        logit_bias=_biases_of(body),
    )


def _biases_of(body: CompletionOptions) -> dict[int, float]:
    biases = {}
    for key, bias in (body.logit_bias or {}).items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10):
            raise InvalidRequest(f"logit_bias: {key[:20]!r} is no token id", field="logit_bias")
        biases[int(key)] = bias
    return biases


def _max_tokens_of(body: ChatBody | TextBody) -> int:
    newer = body.max_completion_tokens if isinstance(body, ChatBody) else None
    return newer or body.max_tokens or 0


def _num_logprobs_of(body: ChatBody | TextBody) -> int | None:
    if isinstance(body, TextBody):
        return body.logprobs
    return (body.top_logprobs or 0) if body.logprobs else None


def _speculation_of(body: CompletionOptions) -> pb.SpeculationParams | None:
    wish = body.speculation
    if wish is None:
        return None
    return pb.SpeculationParams(
        mode=wish.mode or "",
        method=wish.method or "",
        policy=wish.policy or "",
        max_draft_len=wish.max_draft_len,
        exit_layer=wish.exit_layer,
        stop_threshold=wish.stop_threshold,
        tree_nodes=wish.tree_nodes,
        tree_width=wish.tree_width,
        tree_threshold=wish.tree_threshold,
    )
