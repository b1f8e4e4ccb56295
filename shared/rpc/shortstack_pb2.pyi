from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]

class TokenSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_SOURCE_UNSPECIFIED: _ClassVar[TokenSource]
    TOKEN_SOURCE_PLAIN: _ClassVar[TokenSource]
    TOKEN_SOURCE_ACCEPTED: _ClassVar[TokenSource]
    TOKEN_SOURCE_RECOVERED: _ClassVar[TokenSource]
    TOKEN_SOURCE_BONUS: _ClassVar[TokenSource]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_NORMAL: Priority
PRIORITY_LOW: Priority
TOKEN_SOURCE_UNSPECIFIED: TokenSource
TOKEN_SOURCE_PLAIN: TokenSource
TOKEN_SOURCE_ACCEPTED: TokenSource
TOKEN_SOURCE_RECOVERED: TokenSource
TOKEN_SOURCE_BONUS: TokenSource
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CANCELLED: FinishReason

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_k", "top_p", "min_p", "seed", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: _containers.ScalarMap[int, float]
    def __init__(self, temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., top_p: _Optional[float] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., repetition_penalty: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., logit_bias: _Optional[_Mapping[int, float]] = ...) -> None: ...

class StopParams(_message.Message):
    __slots__ = ("max_new_tokens", "stop_token_ids", "ignore_eos", "min_new_tokens")
    MAX_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    MIN_NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_new_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    min_new_tokens: int
    def __init__(self, max_new_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: _Optional[bool] = ..., min_new_tokens: _Optional[int] = ...) -> None: ...

class SpeculationParams(_message.Message):
    __slots__ = ("method", "exit_layer", "max_draft_len", "stop_threshold", "policy", "mode", "tree_nodes", "tree_width", "tree_threshold")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_LEN_FIELD_NUMBER: _ClassVar[int]
    STOP_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TREE_NODES_FIELD_NUMBER: _ClassVar[int]
    TREE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    TREE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float
    policy: str
    mode: str
    tree_nodes: int
    tree_width: int
    tree_threshold: float
    def __init__(self, method: _Optional[str] = ..., exit_layer: _Optional[int] = ..., max_draft_len: _Optional[int] = ..., stop_threshold: _Optional[float] = ..., policy: _Optional[str] = ..., mode: _Optional[str] = ..., tree_nodes: _Optional[int] = ..., tree_width: _Optional[int] = ..., tree_threshold: _Optional[float] = ...) -> None: ...

class TokenLogprobs(_message.Message):
    __slots__ = ("logprob", "top")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    top: _containers.RepeatedCompositeFieldContainer[TopLogprob]
    def __init__(self, logprob: _Optional[float] = ..., top: _Optional[_Iterable[_Union[TopLogprob, _Mapping]]] = ...) -> None: ...

class TopLogprob(_message.Message):
    __slots__ = ("token_id", "logprob")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    logprob: float
    def __init__(self, token_id: _Optional[int] = ..., logprob: _Optional[float] = ...) -> None: ...

class SpeculationSummary(_message.Message):
    __slots__ = ("num_drafts", "num_draft_tokens", "num_accepted_tokens", "num_plain_rounds", "acceptance_histogram", "num_emitted_in_drafts")
    NUM_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_PLAIN_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    NUM_EMITTED_IN_DRAFTS_FIELD_NUMBER: _ClassVar[int]
    num_drafts: int
    num_draft_tokens: int
    num_accepted_tokens: int
    num_plain_rounds: int
    acceptance_histogram: _containers.RepeatedScalarFieldContainer[int]
    num_emitted_in_drafts: int
    def __init__(self, num_drafts: _Optional[int] = ..., num_draft_tokens: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ..., num_plain_rounds: _Optional[int] = ..., acceptance_histogram: _Optional[_Iterable[int]] = ..., num_emitted_in_drafts: _Optional[int] = ...) -> None: ...

class SessionTimings(_message.Message):
    __slots__ = ("queue_ns", "prefill_ns", "decode_ns", "draft_ns", "verify_ns")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_NS_FIELD_NUMBER: _ClassVar[int]
    DECODE_NS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFY_NS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    prefill_ns: int
    decode_ns: int
    draft_ns: int
    verify_ns: int
    def __init__(self, queue_ns: _Optional[int] = ..., prefill_ns: _Optional[int] = ..., decode_ns: _Optional[int] = ..., draft_ns: _Optional[int] = ..., verify_ns: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("model_name", "model_fingerprint", "model_type", "dtype", "num_layers", "hidden_size", "vocab_size", "max_context_len", "eos_token_ids")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NUM_LAYERS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_LEN_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_fingerprint: str
    model_type: str
    dtype: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    max_context_len: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model_name: _Optional[str] = ..., model_fingerprint: _Optional[str] = ..., model_type: _Optional[str] = ..., dtype: _Optional[str] = ..., num_layers: _Optional[int] = ..., hidden_size: _Optional[int] = ..., vocab_size: _Optional[int] = ..., max_context_len: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class SessionState(_message.Message):
    __slots__ = ("session_id", "cell_id", "tenant", "method", "exit_layer", "max_draft_len", "stop_threshold", "policy", "reason", "prompt_len", "num_emitted", "num_rounds", "num_plain_rounds", "num_draft_tokens", "num_accepted_tokens", "tokens_per_s", "mean_emitted_len", "has_ended", "finish_reason", "age_ms", "arrived_unix_ns")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_LEN_FIELD_NUMBER: _ClassVar[int]
    STOP_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LEN_FIELD_NUMBER: _ClassVar[int]
    NUM_EMITTED_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_PLAIN_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MEAN_EMITTED_LEN_FIELD_NUMBER: _ClassVar[int]
    HAS_ENDED_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_UNIX_NS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    cell_id: str
    tenant: str
    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float
    policy: str
    reason: str
    prompt_len: int
    num_emitted: int
    num_rounds: int
    num_plain_rounds: int
    num_draft_tokens: int
    num_accepted_tokens: int
    tokens_per_s: float
    mean_emitted_len: float
    has_ended: bool
    finish_reason: FinishReason
    age_ms: int
    arrived_unix_ns: int
    def __init__(self, session_id: _Optional[str] = ..., cell_id: _Optional[str] = ..., tenant: _Optional[str] = ..., method: _Optional[str] = ..., exit_layer: _Optional[int] = ..., max_draft_len: _Optional[int] = ..., stop_threshold: _Optional[float] = ..., policy: _Optional[str] = ..., reason: _Optional[str] = ..., prompt_len: _Optional[int] = ..., num_emitted: _Optional[int] = ..., num_rounds: _Optional[int] = ..., num_plain_rounds: _Optional[int] = ..., num_draft_tokens: _Optional[int] = ..., num_accepted_tokens: _Optional[int] = ..., tokens_per_s: _Optional[float] = ..., mean_emitted_len: _Optional[float] = ..., has_ended: _Optional[bool] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., age_ms: _Optional[int] = ..., arrived_unix_ns: _Optional[int] = ...) -> None: ...

class RoundColumns(_message.Message):
    __slots__ = ("round_indices", "positions", "at_ns", "round_ns", "method_names", "methods", "exit_layers", "max_draft_lens", "stop_thresholds", "draft_lens", "nums_accepted", "nums_emitted", "reason_names", "reasons", "are_alarms")
    ROUND_INDICES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    ROUND_NS_FIELD_NUMBER: _ClassVar[int]
    METHOD_NAMES_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYERS_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_LENS_FIELD_NUMBER: _ClassVar[int]
    STOP_THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LENS_FIELD_NUMBER: _ClassVar[int]
    NUMS_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    NUMS_EMITTED_FIELD_NUMBER: _ClassVar[int]
    REASON_NAMES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ARE_ALARMS_FIELD_NUMBER: _ClassVar[int]
    round_indices: _containers.RepeatedScalarFieldContainer[int]
    positions: _containers.RepeatedScalarFieldContainer[int]
    at_ns: _containers.RepeatedScalarFieldContainer[int]
    round_ns: _containers.RepeatedScalarFieldContainer[int]
    method_names: _containers.RepeatedScalarFieldContainer[str]
    methods: _containers.RepeatedScalarFieldContainer[int]
    exit_layers: _containers.RepeatedScalarFieldContainer[int]
    max_draft_lens: _containers.RepeatedScalarFieldContainer[int]
    stop_thresholds: _containers.RepeatedScalarFieldContainer[float]
    draft_lens: _containers.RepeatedScalarFieldContainer[int]
    nums_accepted: _containers.RepeatedScalarFieldContainer[int]
    nums_emitted: _containers.RepeatedScalarFieldContainer[int]
    reason_names: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[int]
    are_alarms: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, round_indices: _Optional[_Iterable[int]] = ..., positions: _Optional[_Iterable[int]] = ..., at_ns: _Optional[_Iterable[int]] = ..., round_ns: _Optional[_Iterable[int]] = ..., method_names: _Optional[_Iterable[str]] = ..., methods: _Optional[_Iterable[int]] = ..., exit_layers: _Optional[_Iterable[int]] = ..., max_draft_lens: _Optional[_Iterable[int]] = ..., stop_thresholds: _Optional[_Iterable[float]] = ..., draft_lens: _Optional[_Iterable[int]] = ..., nums_accepted: _Optional[_Iterable[int]] = ..., nums_emitted: _Optional[_Iterable[int]] = ..., reason_names: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[int]] = ..., are_alarms: _Optional[_Iterable[bool]] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ChatMessages(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class GenerateTextRequest(_message.Message):
    __slots__ = ("request_id", "model", "prompt", "token_ids", "chat", "sampling", "stop", "stop_strings", "speculation", "num_logprobs", "tenant", "priority", "session_key", "task")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STOP_STRINGS_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    NUM_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SESSION_KEY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    prompt: str
    token_ids: TokenIds
    chat: ChatMessages
    sampling: SamplingParams
    stop: StopParams
    stop_strings: _containers.RepeatedScalarFieldContainer[str]
    speculation: SpeculationParams
    num_logprobs: int
    tenant: str
    priority: Priority
    session_key: str
    task: str
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ..., chat: _Optional[_Union[ChatMessages, _Mapping]] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., stop: _Optional[_Union[StopParams, _Mapping]] = ..., stop_strings: _Optional[_Iterable[str]] = ..., speculation: _Optional[_Union[SpeculationParams, _Mapping]] = ..., num_logprobs: _Optional[int] = ..., tenant: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., session_key: _Optional[str] = ..., task: _Optional[str] = ...) -> None: ...

class GenerateTextResponse(_message.Message):
    __slots__ = ("started", "tokens", "finished")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    started: GenerateTextStarted
    tokens: GenerateTextTokens
    finished: GenerateTextFinished
    def __init__(self, started: _Optional[_Union[GenerateTextStarted, _Mapping]] = ..., tokens: _Optional[_Union[GenerateTextTokens, _Mapping]] = ..., finished: _Optional[_Union[GenerateTextFinished, _Mapping]] = ...) -> None: ...

class GenerateTextStarted(_message.Message):
    __slots__ = ("request_id", "session_id", "cell_id", "prompt_len", "model", "seed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LEN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: str
    cell_id: str
    prompt_len: int
    model: str
    seed: int
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[str] = ..., cell_id: _Optional[str] = ..., prompt_len: _Optional[int] = ..., model: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

class GenerateTextTokens(_message.Message):
    __slots__ = ("text", "token_ids", "sources", "logprobs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    text: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    sources: _containers.RepeatedScalarFieldContainer[TokenSource]
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    def __init__(self, text: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., sources: _Optional[_Iterable[_Union[TokenSource, str]]] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ...) -> None: ...

class GenerateTextFinished(_message.Message):
    __slots__ = ("text", "finish_reason", "stop_reason", "prompt_len", "num_emitted", "speculation", "timings", "num_replays", "num_cached_tokens", "num_preemptions")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LEN_FIELD_NUMBER: _ClassVar[int]
    NUM_EMITTED_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    NUM_REPLAYS_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_PREEMPTIONS_FIELD_NUMBER: _ClassVar[int]
    text: str
    finish_reason: FinishReason
    stop_reason: str
    prompt_len: int
    num_emitted: int
    speculation: SpeculationSummary
    timings: SessionTimings
    num_replays: int
    num_cached_tokens: int
    num_preemptions: int
    def __init__(self, text: _Optional[str] = ..., finish_reason: _Optional[_Union[FinishReason, str]] = ..., stop_reason: _Optional[str] = ..., prompt_len: _Optional[int] = ..., num_emitted: _Optional[int] = ..., speculation: _Optional[_Union[SpeculationSummary, _Mapping]] = ..., timings: _Optional[_Union[SessionTimings, _Mapping]] = ..., num_replays: _Optional[int] = ..., num_cached_tokens: _Optional[int] = ..., num_preemptions: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("was_running",)
    WAS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    was_running: bool
    def __init__(self, was_running: _Optional[bool] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "cells")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    cells: _containers.RepeatedCompositeFieldContainer[CellInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., cells: _Optional[_Iterable[_Union[CellInfo, _Mapping]]] = ...) -> None: ...

class CellInfo(_message.Message):
    __slots__ = ("cell_id", "address", "model_name", "num_sessions", "num_free_pages", "num_draft_workers")
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_FREE_PAGES_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_WORKERS_FIELD_NUMBER: _ClassVar[int]
    cell_id: str
    address: str
    model_name: str
    num_sessions: int
    num_free_pages: int
    num_draft_workers: int
    def __init__(self, cell_id: _Optional[str] = ..., address: _Optional[str] = ..., model_name: _Optional[str] = ..., num_sessions: _Optional[int] = ..., num_free_pages: _Optional[int] = ..., num_draft_workers: _Optional[int] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("with_ended",)
    WITH_ENDED_FIELD_NUMBER: _ClassVar[int]
    with_ended: bool
    def __init__(self, with_ended: _Optional[bool] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "unanswered_cells")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_CELLS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionState]
    unanswered_cells: _containers.RepeatedCompositeFieldContainer[UnansweredCell]
    def __init__(self, sessions: _Optional[_Iterable[_Union[SessionState, _Mapping]]] = ..., unanswered_cells: _Optional[_Iterable[_Union[UnansweredCell, _Mapping]]] = ...) -> None: ...

class UnansweredCell(_message.Message):
    __slots__ = ("cell_id", "address", "error")
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    cell_id: str
    address: str
    error: str
    def __init__(self, cell_id: _Optional[str] = ..., address: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class GetSessionTimelineRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionTimelineResponse(_message.Message):
    __slots__ = ("session", "rounds")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    session: SessionState
    rounds: RoundColumns
    def __init__(self, session: _Optional[_Union[SessionState, _Mapping]] = ..., rounds: _Optional[_Union[RoundColumns, _Mapping]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("session_id", "token_ids", "num_emitted", "sampling", "stop", "speculation", "num_logprobs", "traceparent", "tenant", "priority", "session_key", "task_key")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    NUM_EMITTED_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    NUM_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SESSION_KEY_FIELD_NUMBER: _ClassVar[int]
    TASK_KEY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    num_emitted: int
    sampling: SamplingParams
    stop: StopParams
    speculation: SpeculationParams
    num_logprobs: int
    traceparent: str
    tenant: str
    priority: Priority
    session_key: str
    task_key: str
    def __init__(self, session_id: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., num_emitted: _Optional[int] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., stop: _Optional[_Union[StopParams, _Mapping]] = ..., speculation: _Optional[_Union[SpeculationParams, _Mapping]] = ..., num_logprobs: _Optional[int] = ..., traceparent: _Optional[str] = ..., tenant: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., session_key: _Optional[str] = ..., task_key: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "tokens", "finished", "moved")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    started: GenerateStarted
    tokens: GenerateTokens
    finished: GenerateFinished
    moved: GenerateMoved
    def __init__(self, started: _Optional[_Union[GenerateStarted, _Mapping]] = ..., tokens: _Optional[_Union[GenerateTokens, _Mapping]] = ..., finished: _Optional[_Union[GenerateFinished, _Mapping]] = ..., moved: _Optional[_Union[GenerateMoved, _Mapping]] = ...) -> None: ...

class GenerateStarted(_message.Message):
    __slots__ = ("cell_id", "num_cached_tokens")
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    cell_id: str
    num_cached_tokens: int
    def __init__(self, cell_id: _Optional[str] = ..., num_cached_tokens: _Optional[int] = ...) -> None: ...

class GenerateTokens(_message.Message):
    __slots__ = ("round_index", "token_ids", "sources", "logprobs", "method", "exit_layer", "draft_len", "reason")
    ROUND_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    DRAFT_LEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    round_index: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    sources: _containers.RepeatedScalarFieldContainer[TokenSource]
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    method: str
    exit_layer: int
    draft_len: int
    reason: str
    def __init__(self, round_index: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., sources: _Optional[_Iterable[_Union[TokenSource, str]]] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ..., method: _Optional[str] = ..., exit_layer: _Optional[int] = ..., draft_len: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class GenerateFinished(_message.Message):
    __slots__ = ("finish_reason", "stop_token_id", "speculation", "timings", "num_cached_tokens", "num_preemptions")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_PREEMPTIONS_FIELD_NUMBER: _ClassVar[int]
    finish_reason: FinishReason
    stop_token_id: int
    speculation: SpeculationSummary
    timings: SessionTimings
    num_cached_tokens: int
    num_preemptions: int
    def __init__(self, finish_reason: _Optional[_Union[FinishReason, str]] = ..., stop_token_id: _Optional[int] = ..., speculation: _Optional[_Union[SpeculationSummary, _Mapping]] = ..., timings: _Optional[_Union[SessionTimings, _Mapping]] = ..., num_cached_tokens: _Optional[int] = ..., num_preemptions: _Optional[int] = ...) -> None: ...

class GenerateMoved(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class GetVerifyInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetVerifyInfoResponse(_message.Message):
    __slots__ = ("cell_id", "worker_id", "boot_id", "model", "page_size", "pool", "methods", "default_speculation", "cell_kind", "transport", "num_draft_workers", "num_sessions", "max_sessions", "settings_json", "build", "is_draining", "speculation", "counters", "draft_vocab", "exit_adapters", "draft_adapters", "acceptance_heads")
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SPECULATION_FIELD_NUMBER: _ClassVar[int]
    CELL_KIND_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_WORKERS_FIELD_NUMBER: _ClassVar[int]
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_JSON_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    IS_DRAINING_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_VOCAB_FIELD_NUMBER: _ClassVar[int]
    EXIT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_HEADS_FIELD_NUMBER: _ClassVar[int]
    cell_id: str
    worker_id: str
    boot_id: int
    model: ModelInfo
    page_size: int
    pool: PoolState
    methods: _containers.RepeatedScalarFieldContainer[str]
    default_speculation: SpeculationParams
    cell_kind: str
    transport: str
    num_draft_workers: int
    num_sessions: int
    max_sessions: int
    settings_json: str
    build: str
    is_draining: bool
    speculation: SpeculationSummary
    counters: WorkCounters
    draft_vocab: DraftVocabInfo
    exit_adapters: ExitAdaptersInfo
    draft_adapters: _containers.RepeatedCompositeFieldContainer[DraftAdapterInfo]
    acceptance_heads: AcceptanceHeadsInfo
    def __init__(self, cell_id: _Optional[str] = ..., worker_id: _Optional[str] = ..., boot_id: _Optional[int] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., page_size: _Optional[int] = ..., pool: _Optional[_Union[PoolState, _Mapping]] = ..., methods: _Optional[_Iterable[str]] = ..., default_speculation: _Optional[_Union[SpeculationParams, _Mapping]] = ..., cell_kind: _Optional[str] = ..., transport: _Optional[str] = ..., num_draft_workers: _Optional[int] = ..., num_sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., settings_json: _Optional[str] = ..., build: _Optional[str] = ..., is_draining: _Optional[bool] = ..., speculation: _Optional[_Union[SpeculationSummary, _Mapping]] = ..., counters: _Optional[_Union[WorkCounters, _Mapping]] = ..., draft_vocab: _Optional[_Union[DraftVocabInfo, _Mapping]] = ..., exit_adapters: _Optional[_Union[ExitAdaptersInfo, _Mapping]] = ..., draft_adapters: _Optional[_Iterable[_Union[DraftAdapterInfo, _Mapping]]] = ..., acceptance_heads: _Optional[_Union[AcceptanceHeadsInfo, _Mapping]] = ...) -> None: ...

class DraftVocabInfo(_message.Message):
    __slots__ = ("num_tokens", "coverage")
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    num_tokens: int
    coverage: float
    def __init__(self, num_tokens: _Optional[int] = ..., coverage: _Optional[float] = ...) -> None: ...

class ExitAdaptersInfo(_message.Message):
    __slots__ = ("rank", "exit_layers")
    RANK_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYERS_FIELD_NUMBER: _ClassVar[int]
    rank: int
    exit_layers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rank: _Optional[int] = ..., exit_layers: _Optional[_Iterable[int]] = ...) -> None: ...

class AcceptanceHeadsInfo(_message.Message):
    __slots__ = ("width", "exit_layers")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYERS_FIELD_NUMBER: _ClassVar[int]
    width: int
    exit_layers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, width: _Optional[int] = ..., exit_layers: _Optional[_Iterable[int]] = ...) -> None: ...

class DraftAdapterInfo(_message.Message):
    __slots__ = ("exit_layer", "digest", "num_parameters")
    EXIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    exit_layer: int
    digest: str
    num_parameters: int
    def __init__(self, exit_layer: _Optional[int] = ..., digest: _Optional[str] = ..., num_parameters: _Optional[int] = ...) -> None: ...

class PoolState(_message.Message):
    __slots__ = ("num_pages", "num_free", "num_used", "num_quarantined", "num_cached")
    NUM_PAGES_FIELD_NUMBER: _ClassVar[int]
    NUM_FREE_FIELD_NUMBER: _ClassVar[int]
    NUM_USED_FIELD_NUMBER: _ClassVar[int]
    NUM_QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_FIELD_NUMBER: _ClassVar[int]
    num_pages: int
    num_free: int
    num_used: int
    num_quarantined: int
    num_cached: int
    def __init__(self, num_pages: _Optional[int] = ..., num_free: _Optional[int] = ..., num_used: _Optional[int] = ..., num_quarantined: _Optional[int] = ..., num_cached: _Optional[int] = ...) -> None: ...

class WorkCounters(_message.Message):
    __slots__ = ("num_passes", "num_row_layers", "num_head_rows", "num_late_responses", "num_fenced_rounds", "num_preemptions", "num_prefix_tokens_queried", "num_prefix_tokens_hit", "num_shed_rounds", "num_set_looks", "set_looks_ns", "searched_steps_ns")
    NUM_PASSES_FIELD_NUMBER: _ClassVar[int]
    NUM_ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NUM_HEAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    NUM_LATE_RESPONSES_FIELD_NUMBER: _ClassVar[int]
    NUM_FENCED_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_PREEMPTIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_PREFIX_TOKENS_QUERIED_FIELD_NUMBER: _ClassVar[int]
    NUM_PREFIX_TOKENS_HIT_FIELD_NUMBER: _ClassVar[int]
    NUM_SHED_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_SET_LOOKS_FIELD_NUMBER: _ClassVar[int]
    SET_LOOKS_NS_FIELD_NUMBER: _ClassVar[int]
    SEARCHED_STEPS_NS_FIELD_NUMBER: _ClassVar[int]
    num_passes: int
    num_row_layers: int
    num_head_rows: int
    num_late_responses: int
    num_fenced_rounds: int
    num_preemptions: int
    num_prefix_tokens_queried: int
    num_prefix_tokens_hit: int
    num_shed_rounds: int
    num_set_looks: int
    set_looks_ns: int
    searched_steps_ns: int
    def __init__(self, num_passes: _Optional[int] = ..., num_row_layers: _Optional[int] = ..., num_head_rows: _Optional[int] = ..., num_late_responses: _Optional[int] = ..., num_fenced_rounds: _Optional[int] = ..., num_preemptions: _Optional[int] = ..., num_prefix_tokens_queried: _Optional[int] = ..., num_prefix_tokens_hit: _Optional[int] = ..., num_shed_rounds: _Optional[int] = ..., num_set_looks: _Optional[int] = ..., set_looks_ns: _Optional[int] = ..., searched_steps_ns: _Optional[int] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("timeout_ms",)
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    timeout_ms: int
    def __init__(self, timeout_ms: _Optional[int] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("num_sessions",)
    NUM_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    num_sessions: int
    def __init__(self, num_sessions: _Optional[int] = ...) -> None: ...

class VerifyServiceListSessionsRequest(_message.Message):
    __slots__ = ("with_ended",)
    WITH_ENDED_FIELD_NUMBER: _ClassVar[int]
    with_ended: bool
    def __init__(self, with_ended: _Optional[bool] = ...) -> None: ...

class VerifyServiceListSessionsResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionState]
    def __init__(self, sessions: _Optional[_Iterable[_Union[SessionState, _Mapping]]] = ...) -> None: ...

class VerifyServiceGetSessionTimelineRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class VerifyServiceGetSessionTimelineResponse(_message.Message):
    __slots__ = ("session", "rounds")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    session: SessionState
    rounds: RoundColumns
    def __init__(self, session: _Optional[_Union[SessionState, _Mapping]] = ..., rounds: _Optional[_Union[RoundColumns, _Mapping]] = ...) -> None: ...

class PoolLayout(_message.Message):
    __slots__ = ("num_pages", "page_size", "num_kv_layers", "num_kv_heads", "head_size", "hidden_size", "num_exit_slots", "max_rows", "dtype")
    NUM_PAGES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_KV_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NUM_KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_SIZE_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_EXIT_SLOTS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    num_pages: int
    page_size: int
    num_kv_layers: int
    num_kv_heads: int
    head_size: int
    hidden_size: int
    num_exit_slots: int
    max_rows: int
    dtype: str
    def __init__(self, num_pages: _Optional[int] = ..., page_size: _Optional[int] = ..., num_kv_layers: _Optional[int] = ..., num_kv_heads: _Optional[int] = ..., head_size: _Optional[int] = ..., hidden_size: _Optional[int] = ..., num_exit_slots: _Optional[int] = ..., max_rows: _Optional[int] = ..., dtype: _Optional[str] = ...) -> None: ...

class SegmentHandle(_message.Message):
    __slots__ = ("shm_path", "cuda_ipc", "size_bytes")
    SHM_PATH_FIELD_NUMBER: _ClassVar[int]
    CUDA_IPC_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    shm_path: str
    cuda_ipc: CudaIpcHandle
    size_bytes: int
    def __init__(self, shm_path: _Optional[str] = ..., cuda_ipc: _Optional[_Union[CudaIpcHandle, _Mapping]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class CudaIpcHandle(_message.Message):
    __slots__ = ("handle", "device_uuid", "offset_bytes", "torch_metadata")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_UUID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    TORCH_METADATA_FIELD_NUMBER: _ClassVar[int]
    handle: bytes
    device_uuid: str
    offset_bytes: int
    torch_metadata: bytes
    def __init__(self, handle: _Optional[bytes] = ..., device_uuid: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., torch_metadata: _Optional[bytes] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("worker_id", "boot_id", "model", "layout", "segment", "draft_adapters")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    DRAFT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    boot_id: int
    model: ModelInfo
    layout: PoolLayout
    segment: SegmentHandle
    draft_adapters: _containers.RepeatedCompositeFieldContainer[DraftAdapterInfo]
    def __init__(self, worker_id: _Optional[str] = ..., boot_id: _Optional[int] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., layout: _Optional[_Union[PoolLayout, _Mapping]] = ..., segment: _Optional[_Union[SegmentHandle, _Mapping]] = ..., draft_adapters: _Optional[_Iterable[_Union[DraftAdapterInfo, _Mapping]]] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("worker_id", "liveness_path", "check_word", "draft_vocab", "exit_adapters", "acceptance_heads")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    LIVENESS_PATH_FIELD_NUMBER: _ClassVar[int]
    CHECK_WORD_FIELD_NUMBER: _ClassVar[int]
    DRAFT_VOCAB_FIELD_NUMBER: _ClassVar[int]
    EXIT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_HEADS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    liveness_path: str
    check_word: int
    draft_vocab: DraftVocabInfo
    exit_adapters: ExitAdaptersInfo
    acceptance_heads: AcceptanceHeadsInfo
    def __init__(self, worker_id: _Optional[str] = ..., liveness_path: _Optional[str] = ..., check_word: _Optional[int] = ..., draft_vocab: _Optional[_Union[DraftVocabInfo, _Mapping]] = ..., exit_adapters: _Optional[_Union[ExitAdaptersInfo, _Mapping]] = ..., acceptance_heads: _Optional[_Union[AcceptanceHeadsInfo, _Mapping]] = ...) -> None: ...

class PageExtent(_message.Message):
    __slots__ = ("first_page", "num_pages")
    FIRST_PAGE_FIELD_NUMBER: _ClassVar[int]
    NUM_PAGES_FIELD_NUMBER: _ClassVar[int]
    first_page: int
    num_pages: int
    def __init__(self, first_page: _Optional[int] = ..., num_pages: _Optional[int] = ...) -> None: ...

class KVHandle(_message.Message):
    __slots__ = ("boot_id", "extents")
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    EXTENTS_FIELD_NUMBER: _ClassVar[int]
    boot_id: int
    extents: _containers.RepeatedCompositeFieldContainer[PageExtent]
    def __init__(self, boot_id: _Optional[int] = ..., extents: _Optional[_Iterable[_Union[PageExtent, _Mapping]]] = ...) -> None: ...

class ExitStatesHandle(_message.Message):
    __slots__ = ("slot", "num_rows")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    NUM_ROWS_FIELD_NUMBER: _ClassVar[int]
    slot: int
    num_rows: int
    def __init__(self, slot: _Optional[int] = ..., num_rows: _Optional[int] = ...) -> None: ...

class RoundTask(_message.Message):
    __slots__ = ("session_id", "round_index", "kv_handle", "exit_states_handle", "pending_tokens", "committed_len", "prompt_len", "method", "exit_layer", "max_draft_len", "stop_threshold", "sampling", "stop_token_ids", "traceparent", "shadow_exits", "skip_set", "skip_version", "tree", "by_chance")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_INDEX_FIELD_NUMBER: _ClassVar[int]
    KV_HANDLE_FIELD_NUMBER: _ClassVar[int]
    EXIT_STATES_HANDLE_FIELD_NUMBER: _ClassVar[int]
    PENDING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_LEN_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LEN_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    EXIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_LEN_FIELD_NUMBER: _ClassVar[int]
    STOP_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_EXITS_FIELD_NUMBER: _ClassVar[int]
    SKIP_SET_FIELD_NUMBER: _ClassVar[int]
    SKIP_VERSION_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    BY_CHANCE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    round_index: int
    kv_handle: KVHandle
    exit_states_handle: ExitStatesHandle
    pending_tokens: _containers.RepeatedScalarFieldContainer[int]
    committed_len: int
    prompt_len: int
    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float
    sampling: SamplingParams
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    traceparent: str
    shadow_exits: _containers.RepeatedScalarFieldContainer[int]
    skip_set: _containers.RepeatedScalarFieldContainer[int]
    skip_version: int
    tree: TreeBudget
    by_chance: bool
    def __init__(self, session_id: _Optional[str] = ..., round_index: _Optional[int] = ..., kv_handle: _Optional[_Union[KVHandle, _Mapping]] = ..., exit_states_handle: _Optional[_Union[ExitStatesHandle, _Mapping]] = ..., pending_tokens: _Optional[_Iterable[int]] = ..., committed_len: _Optional[int] = ..., prompt_len: _Optional[int] = ..., method: _Optional[str] = ..., exit_layer: _Optional[int] = ..., max_draft_len: _Optional[int] = ..., stop_threshold: _Optional[float] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., traceparent: _Optional[str] = ..., shadow_exits: _Optional[_Iterable[int]] = ..., skip_set: _Optional[_Iterable[int]] = ..., skip_version: _Optional[int] = ..., tree: _Optional[_Union[TreeBudget, _Mapping]] = ..., by_chance: _Optional[bool] = ...) -> None: ...

class TreeBudget(_message.Message):
    __slots__ = ("max_nodes", "max_width", "branch_threshold")
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
    BRANCH_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    max_nodes: int
    max_width: int
    branch_threshold: float
    def __init__(self, max_nodes: _Optional[int] = ..., max_width: _Optional[int] = ..., branch_threshold: _Optional[float] = ...) -> None: ...

class RoundRequest(_message.Message):
    __slots__ = ("batch_index", "tasks")
    BATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    batch_index: int
    tasks: _containers.RepeatedCompositeFieldContainer[RoundTask]
    def __init__(self, batch_index: _Optional[int] = ..., tasks: _Optional[_Iterable[_Union[RoundTask, _Mapping]]] = ...) -> None: ...

class ShadowExit(_message.Message):
    __slots__ = ("exit_layer", "choices", "confidences")
    EXIT_LAYER_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCES_FIELD_NUMBER: _ClassVar[int]
    exit_layer: int
    choices: _containers.RepeatedScalarFieldContainer[int]
    confidences: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, exit_layer: _Optional[int] = ..., choices: _Optional[_Iterable[int]] = ..., confidences: _Optional[_Iterable[float]] = ...) -> None: ...

class DraftTimings(_message.Message):
    __slots__ = ("queue_ns", "draft_ns", "started_ns")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_NS_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    draft_ns: int
    started_ns: int
    def __init__(self, queue_ns: _Optional[int] = ..., draft_ns: _Optional[int] = ..., started_ns: _Optional[int] = ...) -> None: ...

class RoundDraft(_message.Message):
    __slots__ = ("session_id", "round_index", "draft_tokens", "confidences", "exit_states_handle", "timings", "shadow_exits", "tree_parents", "num_pseudo_rows", "error")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_INDEX_FIELD_NUMBER: _ClassVar[int]
    DRAFT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCES_FIELD_NUMBER: _ClassVar[int]
    EXIT_STATES_HANDLE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_EXITS_FIELD_NUMBER: _ClassVar[int]
    TREE_PARENTS_FIELD_NUMBER: _ClassVar[int]
    NUM_PSEUDO_ROWS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    round_index: int
    draft_tokens: _containers.RepeatedScalarFieldContainer[int]
    confidences: _containers.RepeatedScalarFieldContainer[float]
    exit_states_handle: ExitStatesHandle
    timings: DraftTimings
    shadow_exits: _containers.RepeatedCompositeFieldContainer[ShadowExit]
    tree_parents: _containers.RepeatedScalarFieldContainer[int]
    num_pseudo_rows: int
    error: str
    def __init__(self, session_id: _Optional[str] = ..., round_index: _Optional[int] = ..., draft_tokens: _Optional[_Iterable[int]] = ..., confidences: _Optional[_Iterable[float]] = ..., exit_states_handle: _Optional[_Union[ExitStatesHandle, _Mapping]] = ..., timings: _Optional[_Union[DraftTimings, _Mapping]] = ..., shadow_exits: _Optional[_Iterable[_Union[ShadowExit, _Mapping]]] = ..., tree_parents: _Optional[_Iterable[int]] = ..., num_pseudo_rows: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class RoundResponse(_message.Message):
    __slots__ = ("batch_index", "drafts")
    BATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    batch_index: int
    drafts: _containers.RepeatedCompositeFieldContainer[RoundDraft]
    def __init__(self, batch_index: _Optional[int] = ..., drafts: _Optional[_Iterable[_Union[RoundDraft, _Mapping]]] = ...) -> None: ...

class GetDraftInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDraftInfoResponse(_message.Message):
    __slots__ = ("worker_id", "model", "methods", "attached_boot_id", "num_rounds", "num_draft_steps", "num_row_layers", "num_head_rows", "settings_json", "build", "num_loaded_layers", "draft_vocab", "exit_adapters", "draft_adapters", "acceptance_heads")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    NUM_ROUNDS_FIELD_NUMBER: _ClassVar[int]
    NUM_DRAFT_STEPS_FIELD_NUMBER: _ClassVar[int]
    NUM_ROW_LAYERS_FIELD_NUMBER: _ClassVar[int]
    NUM_HEAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_JSON_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    NUM_LOADED_LAYERS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_VOCAB_FIELD_NUMBER: _ClassVar[int]
    EXIT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    DRAFT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_HEADS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    model: ModelInfo
    methods: _containers.RepeatedScalarFieldContainer[str]
    attached_boot_id: int
    num_rounds: int
    num_draft_steps: int
    num_row_layers: int
    num_head_rows: int
    settings_json: str
    build: str
    num_loaded_layers: int
    draft_vocab: DraftVocabInfo
    exit_adapters: ExitAdaptersInfo
    draft_adapters: _containers.RepeatedCompositeFieldContainer[DraftAdapterInfo]
    acceptance_heads: AcceptanceHeadsInfo
    def __init__(self, worker_id: _Optional[str] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., methods: _Optional[_Iterable[str]] = ..., attached_boot_id: _Optional[int] = ..., num_rounds: _Optional[int] = ..., num_draft_steps: _Optional[int] = ..., num_row_layers: _Optional[int] = ..., num_head_rows: _Optional[int] = ..., settings_json: _Optional[str] = ..., build: _Optional[str] = ..., num_loaded_layers: _Optional[int] = ..., draft_vocab: _Optional[_Union[DraftVocabInfo, _Mapping]] = ..., exit_adapters: _Optional[_Union[ExitAdaptersInfo, _Mapping]] = ..., draft_adapters: _Optional[_Iterable[_Union[DraftAdapterInfo, _Mapping]]] = ..., acceptance_heads: _Optional[_Union[AcceptanceHeadsInfo, _Mapping]] = ...) -> None: ...
