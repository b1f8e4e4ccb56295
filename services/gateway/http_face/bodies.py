"""Request bodies of the OpenAI endpoints, as far as a body alone can be judged.

What cannot change the text is accepted. Ranges are the gateway's to check, for both faces.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from services.gateway.http_face.fields import (
    TEXT_ONLY,
    Body,
    Ids,
    Name,
    NoBestOf,
    NoFormat,
    NoName,
    NoPrediction,
    NoReasoning,
    NoSearch,
    NoSuffix,
    NoToolChoice,
    NoTools,
    Text,
    TextOnly,
    Texts,
    UInt32,
    conflict,
    has_few_biases,
    refuse,
)

# Sessions that one request may make: choices times prompts.
MAX_CHOICES = 128


class StreamOptions(Body):
    """What a stream is to tell besides its text."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[None, refuse("chunks are not padded", False)] = None


class SpeculationBody(Body):
    """How a request is to be speculated on. Only time depends on it, never the text."""

    mode: Literal["auto", "off", "force"] | None = None
    method: Name | None = None
    policy: Name | None = None
    max_draft_len: UInt32 | None = None
    exit_layer: UInt32 | None = None
    stop_threshold: float | None = None
    tree_nodes: UInt32 | None = None
    tree_width: UInt32 | None = None
    tree_threshold: float | None = None
    report: Literal["none", "summary", "detailed"] | None = None
    allow_approximate: Annotated[
        None, refuse("every method served is exact; leave it out or say false", False)
    ] = None


def _text_or_list(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<list>" if isinstance(value, list) else None


Stop = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[Texts, Tag("<list>")],
    Discriminator(
        _text_or_list,
        custom_error_type="stop_type",
        custom_error_message="must be a text or a list of texts",
    ),
]


class CompletionOptions(Body):
    """What both endpoints take."""

    model: Name | None = None
    max_tokens: Annotated[UInt32, Field(ge=1)] | None = None
    min_tokens: UInt32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**32)] | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Annotated[dict[str, float], BeforeValidator(has_few_biases)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Stop | None = None
    stop_token_ids: Ids | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    priority: Literal["normal", "low"] | None = None
    speculation: SpeculationBody | None = None
    session_key: Text | None = None
    # These cannot change the text.
    user: Text | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_retention: Text | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> "CompletionOptions":
        if self.stream_options is not None and not self.stream:
            raise conflict("stream_options", "stream_options needs stream: true")
        return self

    @property
    def field_names(self) -> dict[str, str]:
        """Names of fields in this body by what the gateway's own checks call them."""
        return {
            "stop.max_new_tokens": "max_tokens",
            "stop.min_new_tokens": "min_tokens",
            "stop.stop_token_ids": "stop_token_ids",
            "stop_strings": "stop",
        }


class TextPart(Body):
    """One part of a turn."""

    type: Literal["text"]
    text: Text


Content = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[list[TextPart], Field(fail_fast=True, min_length=1), Tag("<list>")],
    Discriminator(
        _text_or_list,
        custom_error_type="content_type",
        custom_error_message="must be a text or a list of parts of type text",
    ),
]


class ChatTurnBody(Body):
    """One turn. What an answer of ours says beside its text may be sent back as it came."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: NoName = None
    refusal: TextOnly = None
    audio: TextOnly = None
    annotations: Annotated[None, refuse(TEXT_ONLY, [])] = None
    tool_calls: NoTools = None
    function_call: NoTools = None


class ChatBody(CompletionOptions):
    """Body of /v1/chat/completions."""

    messages: Annotated[list[ChatTurnBody], Field(fail_fast=True, min_length=1)]
    max_completion_tokens: Annotated[UInt32, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: UInt32 | None = None
    tools: NoTools = None
    tool_choice: NoToolChoice = None
    parallel_tool_calls: bool | None = None
    functions: NoTools = None
    function_call: NoToolChoice = None
    response_format: NoFormat = None
    modalities: TextOnly = None
    audio: TextOnly = None
    prediction: NoPrediction = None
    reasoning_effort: NoReasoning = None
    verbosity: Annotated[None, refuse("the model knows no verbosity", "medium")] = None
    web_search_options: NoSearch = None

    @model_validator(mode="after")
    def _limits_agree(self) -> "ChatBody":
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise conflict(
                "max_tokens", "max_tokens and max_completion_tokens differ; send one of them"
            )
        return self

    @model_validator(mode="after")
    def _alternatives_need_logprobs(self) -> "ChatBody":
        if self.top_logprobs is not None and not self.logprobs:
            raise conflict("top_logprobs", "top_logprobs needs logprobs: true")
        return self

    @property
    def field_names(self) -> dict[str, str]:
        """As of all bodies, with those of chats."""
        own = {
            "prompt": "messages",
            "chat": "messages",
            "chat.role": "messages",
            "num_logprobs": "top_logprobs",
        }
        if self.max_completion_tokens is not None:
            own["stop.max_new_tokens"] = "max_completion_tokens"
        return super().field_names | own


def _kind_of_prompt(value: object) -> str | None:
    if isinstance(value, list):
        first = type(value[0]) if value else int
        return {str: "<texts>", int: "<ids>", list: "<lists of ids>"}.get(first)
    return "<text>" if isinstance(value, str) else None


Prompts = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[Texts, Field(max_length=MAX_CHOICES), Tag("<texts>")]
    | Annotated[Ids, Field(min_length=1), Tag("<ids>")]
    | Annotated[
        list[Ids], Field(fail_fast=True, max_length=MAX_CHOICES), Tag("<lists of ids>")
    ],
    Discriminator(
        _kind_of_prompt,
        custom_error_type="prompt_type",
        custom_error_message="must be a text, texts, a list of ids, or lists of ids",
    ),
]  # fmt: skip


class TextBody(CompletionOptions):
    """Body of /v1/completions."""

    prompt: Prompts
    logprobs: UInt32 | None = None
    echo: bool | None = None
    suffix: NoSuffix = None
    best_of: NoBestOf = None

    @model_validator(mode="after")
    def _echo_has_no_logprobs(self) -> "TextBody":
        if self.echo and self.logprobs is not None:
            raise conflict("echo", "prompts have no logprobs here; leave out echo or logprobs")
        return self

    @property
    def field_names(self) -> dict[str, str]:
        """As of all bodies, with those of completions."""
        return super().field_names | {"token_ids": "prompt", "num_logprobs": "logprobs"}
