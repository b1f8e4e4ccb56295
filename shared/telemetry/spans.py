"""The spans of a trace: every name and attribute, its kind and its meaning, once.

    GenerateText | POST /v1/...                         gateway, per call of a client
    └─ chat MODEL | text_completion MODEL               gateway
       └─ generate                                      verify worker, per cell that ran it
          ├─ queue
          ├─ prefill
          └─ decode
             └─ round ...                               one per round, the prefill is none
                ├─ draft                                whoever drafts: the draft worker
                ├─ hand_over
                ├─ verify ─ ─ ─ link ─ ─ ┐
                └─ commit                │
    pass ◄─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┘              verify worker, a trace of its own

Sessions share passes, so a pass belongs to no request's trace: it is linked to the rounds in it,
and their `verify` to it. Names that the OpenTelemetry conventions have are theirs; the rest is
`shortstack.*`. A test compares this table with what running processes emit, another one with
docs/tracing.md, whose tables `python -m shared.telemetry.spans` prints. It is one table, hence the
length of this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

Value = str | int | float | bool | tuple[str, ...]
Attributes = Mapping[str, Value]

# --- attributes ---------------------------------------------------------------------------------

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
ERROR_TYPE = "error.type"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"

REQUEST_ID = "shortstack.request_id"
TENANT = "shortstack.tenant"
# Not `gen_ai.request.seed`: that is a signed number, and ours fill 64 bits.
SEED = "shortstack.seed"
SESSION_ID = "shortstack.session_id"
CELL_ID = "shortstack.cell_id"
NUM_REPLAYS = "shortstack.num_replays"
ADMISSION_MS = "shortstack.admission_ms"
NUM_DRAFT_TOKENS = "shortstack.num_draft_tokens"
NUM_ACCEPTED = "shortstack.num_accepted"
NUM_EMITTED = "shortstack.num_emitted"
NUM_EMITTED_BEFORE = "shortstack.num_emitted_before"
NUM_ROUNDS = "shortstack.num_rounds"
NUM_PLAIN_ROUNDS = "shortstack.num_plain_rounds"
NUM_CACHED_TOKENS = "shortstack.num_cached_tokens"
NUM_PREEMPTIONS = "shortstack.num_preemptions"
PROMPT_LEN = "shortstack.prompt_len"
FINISH_REASON = "shortstack.finish_reason"
POLICY = "shortstack.policy"

ROUND_INDEX = "shortstack.round.index"
METHOD = "shortstack.round.method"
EXIT_LAYER = "shortstack.round.exit_layer"
MAX_DRAFT_LEN = "shortstack.round.max_draft_len"
STOP_THRESHOLD = "shortstack.round.stop_threshold"
DRAFT_LEN = "shortstack.round.draft_len"
ROUND_ACCEPTED = "shortstack.round.num_accepted"
ROUND_EMITTED = "shortstack.round.num_emitted"
SOURCE = "shortstack.round.source"
REASON = "shortstack.round.reason"
IS_DRAFT_LOST = "shortstack.round.is_draft_lost"

NUM_TASKS = "shortstack.draft.num_tasks"
DRAFT_QUEUE_MS = "shortstack.draft.queue_ms"

PASS_INDEX = "shortstack.pass.index"
PASS_SESSIONS = "shortstack.pass.num_sessions"
PASS_ROWS = "shortstack.pass.num_rows"
PASS_PREFILL_ROWS = "shortstack.pass.num_prefill_rows"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a span; `is_always`: every such span has it."""

    name: str
    type: type
    meaning: str
    is_always: bool = True


def _sometimes(name: str, type_: type, meaning: str) -> Attribute:
    return Attribute(name, type_, meaning, is_always=False)


@dataclass(frozen=True, slots=True)
class SpanSpec:
    """One kind of span; `{model}` in a name stands for the model's."""

    name: str
    kind: SpanKind
    services: tuple[str, ...]
    parent: str
    meaning: str
    attributes: tuple[Attribute, ...] = ()


# --- services, as `service.name` has them -------------------------------------------------------

GATEWAY, VERIFY, DRAFT = "shortstack-gateway", "shortstack-verify", "shortstack-draft"

# --- spans --------------------------------------------------------------------------------------

_RPC = (
    Attribute(RPC_SYSTEM, str, "`grpc`"),
    Attribute(RPC_METHOD, str, "full name of the method"),
    Attribute(RPC_STATUS, str, "status that ended the call"),
    _sometimes(ERROR_TYPE, str, "class of the error that ended it"),
)
_HTTP = (
    Attribute(HTTP_METHOD, str, "`POST`"),
    Attribute(HTTP_ROUTE, str, "the endpoint"),
    Attribute(URL_PATH, str, "the same"),
    Attribute(URL_SCHEME, str, "`http`"),
    _sometimes(HTTP_STATUS, int, "status of the answer, if there was one"),
    _sometimes(ERROR_TYPE, str, "status of a refusal or failure, or class of the error"),
    Attribute(REQUEST_ID, str, "the request; choices after the first add their index"),
)
_CHAT = (
    Attribute(OPERATION, str, "`chat` or `text_completion`"),
    Attribute(PROVIDER, str, "`shortstack`"),
    Attribute(REQUEST_MODEL, str, "name of the model"),
    Attribute(REQUEST_TEMPERATURE, float, "0 is greedy"),
    _sometimes(REQUEST_MAX_TOKENS, int, "limit of new tokens that the request named"),
    _sometimes(REQUEST_TOP_P, float, "where it has an effect"),
    _sometimes(REQUEST_TOP_K, int, "where it has an effect"),
    _sometimes(REQUEST_PRESENCE_PENALTY, float, "where it has an effect"),
    _sometimes(REQUEST_FREQUENCY_PENALTY, float, "where it has an effect"),
    _sometimes(REQUEST_STOP_SEQUENCES, tuple, "stop strings, where text is recorded"),
    _sometimes(INPUT_MESSAGES, str, "the prompt as JSON, where text is recorded"),
    _sometimes(OUTPUT_MESSAGES, str, "the output as JSON, where text is recorded"),
    Attribute(FINISH_REASONS, tuple, "why it ended, one entry"),
    _sometimes(TIME_TO_FIRST_CHUNK, float, "seconds from arrival to the first tokens"),
    Attribute(INPUT_TOKENS, int, "tokens of the prompt"),
    Attribute(OUTPUT_TOKENS, int, "tokens emitted"),
    Attribute(CACHED_INPUT_TOKENS, int, "prompt tokens taken from the cell's prefix cache"),
    Attribute(REQUEST_ID, str, "the request"),
    Attribute(TENANT, str, "on whose account; may be empty"),
    _sometimes(SEED, str, "seed in use, a decimal, where tokens are sampled"),
    _sometimes(SESSION_ID, str, "session in the last cell that ran it"),
    _sometimes(CELL_ID, str, "the last cell that ran it"),
    Attribute(NUM_REPLAYS, int, "times it was moved to another cell"),
    _sometimes(ADMISSION_MS, float, "from arrival to a place among the running requests"),
    Attribute(NUM_DRAFT_TOKENS, int, "draft tokens proposed"),
    Attribute(NUM_ACCEPTED, int, "of these, tokens that the target chose too"),
    _sometimes(ERROR_TYPE, str, "class of the error that ended it"),
)
_ROUND_KEY = Attribute(ROUND_INDEX, int, "index of the round in its session")

GENERATE_TEXT = SpanSpec(
    "GenerateText",
    SpanKind.SERVER,
    (GATEWAY,),
    "the client's span, if any",
    "one call of a client",
    (*_RPC, _sometimes(REQUEST_ID, str, "the request, once it was read")),
)
POST_CHAT = SpanSpec(
    "POST /v1/chat/completions",
    SpanKind.SERVER,
    (GATEWAY,),
    "the client's span, if any",
    "one HTTP request, all its choices",
    _HTTP,
)
POST_TEXT = SpanSpec(
    "POST /v1/completions",
    SpanKind.SERVER,
    (GATEWAY,),
    "the client's span, if any",
    "the same of the other endpoint",
    _HTTP,
)
CHAT = SpanSpec(
    "chat {model}",
    SpanKind.CLIENT,
    (GATEWAY,),
    "GenerateText, POST ...",
    "one request (a choice of it) with chat turns, from arrival to its end, replays included",
    _CHAT,
)
TEXT_COMPLETION = SpanSpec(
    "text_completion {model}",
    SpanKind.CLIENT,
    (GATEWAY,),
    "GenerateText, POST ...",
    "the same of a request with a text or token ids",
    _CHAT,
)
GENERATE = SpanSpec(
    "generate",
    SpanKind.SERVER,
    (VERIFY,),
    "chat, text_completion",
    "one session in a cell, as long as its stream",
    (
        *_RPC,
        _sometimes(SESSION_ID, str, "the session, once its request was read"),
        Attribute(CELL_ID, str, "the cell"),
        _sometimes(POLICY, str, "what decides its rounds"),
        _sometimes(PROMPT_LEN, int, "tokens of the client's prompt"),
        _sometimes(NUM_EMITTED_BEFORE, int, "tokens emitted by cells before this one"),
    ),
)
QUEUE = SpanSpec(
    "queue",
    SpanKind.INTERNAL,
    (VERIFY,),
    "generate",
    "waiting for pages, until admitted or over",
)
PREFILL = SpanSpec(
    "prefill",
    SpanKind.INTERNAL,
    (VERIFY,),
    "generate",
    "from admission to the first token, or the end",
    (
        Attribute(PROMPT_LEN, int, "tokens of the client's prompt"),
        Attribute(NUM_CACHED_TOKENS, int, "tokens taken from the prefix cache"),
    ),
)
DECODE = SpanSpec(
    "decode",
    SpanKind.INTERNAL,
    (VERIFY,),
    "generate",
    "from the first token to the end",
    (
        Attribute(NUM_ROUNDS, int, "rounds, the prefill is none"),
        Attribute(NUM_PLAIN_ROUNDS, int, "of these, rounds without a draft"),
        Attribute(NUM_DRAFT_TOKENS, int, "draft tokens proposed"),
        Attribute(NUM_ACCEPTED, int, "of these, tokens that the target chose too"),
        Attribute(NUM_EMITTED, int, "tokens emitted here"),
        Attribute(NUM_PREEMPTIONS, int, "times the session's memory was taken back"),
        Attribute(FINISH_REASON, str, "why it ended; a session that was moved reads cancelled"),
    ),
)
ROUND = SpanSpec(
    "round",
    SpanKind.INTERNAL,
    (VERIFY,),
    "decode",
    "one round, from its order, or of a plain one its plan, to its commit",
    (
        _ROUND_KEY,
        Attribute(METHOD, str, "method as decided; `off` in a plain round"),
        Attribute(EXIT_LAYER, int, "exit layer E as decided; 0 in a plain round"),
        Attribute(MAX_DRAFT_LEN, int, "most draft tokens; 0 in a plain round"),
        Attribute(STOP_THRESHOLD, float, "drafting stops below this confidence"),
        Attribute(DRAFT_LEN, int, "draft tokens verified"),
        Attribute(ROUND_ACCEPTED, int, "of these, tokens that the target chose too"),
        Attribute(ROUND_EMITTED, int, "tokens emitted"),
        Attribute(SOURCE, str, "of its last token: plain, accepted, recovered, bonus"),
        Attribute(REASON, str, "why it was decided so"),
        _sometimes(IS_DRAFT_LOST, bool, "true where a draft was ordered and none that fits came"),
    ),
)
DRAFT_SPAN = SpanSpec(
    "draft",
    SpanKind.INTERNAL,
    (DRAFT, VERIFY),
    "round",
    "the draft's layers; emitted by the draft worker, in a fused cell by the verify worker",
    (
        _ROUND_KEY,
        Attribute(METHOD, str, "method"),
        Attribute(EXIT_LAYER, int, "exit layer E"),
        Attribute(MAX_DRAFT_LEN, int, "most draft tokens"),
        Attribute(DRAFT_LEN, int, "draft tokens made"),
        _sometimes(NUM_TASKS, int, "rounds drafted together; by a draft worker"),
        _sometimes(DRAFT_QUEUE_MS, float, "from the order's arrival on; by a draft worker"),
    ),
)
HAND_OVER = SpanSpec(
    "hand_over",
    SpanKind.INTERNAL,
    (VERIFY,),
    "round",
    "from the end of the draft to the pass that verifies it",
)
VERIFY_SPAN = SpanSpec(
    "verify",
    SpanKind.INTERNAL,
    (VERIFY,),
    "round",
    "the pass that the round is in; linked to its `pass`",
)
COMMIT = SpanSpec(
    "commit",
    SpanKind.INTERNAL,
    (VERIFY,),
    "round",
    "from the end of the pass until all its sessions are committed",
)
PASS = SpanSpec(
    "pass",
    SpanKind.INTERNAL,
    (VERIFY,),
    "none",
    "one pass with a traced round in it; linked to those rounds",
    (
        Attribute(PASS_INDEX, int, "index of the pass since the start"),
        Attribute(PASS_SESSIONS, int, "sessions with a round in it"),
        Attribute(PASS_ROWS, int, "rows"),
        Attribute(PASS_PREFILL_ROWS, int, "of these, rows of prompts"),
    ),
)

# What a trace begins with here.
ROOTS = (GENERATE_TEXT, POST_CHAT, POST_TEXT)
SPANS = (
    *ROOTS,
    CHAT,
    TEXT_COMPLETION,
    GENERATE,
    QUEUE,
    PREFILL,
    DECODE,
    ROUND,
    DRAFT_SPAN,
    HAND_OVER,
    VERIFY_SPAN,
    COMMIT,
    PASS,
)


def tables() -> str:
    """Return the tables of docs/tracing.md."""
    lines = ["| span | kind | emitted by | child of | what it covers |", "|---|---|---|---|---|"]
    lines += [
        f"| `{each.name}` | {each.kind.name} | {' or '.join(each.services)} | {each.parent} |"
        f" {each.meaning} |"
        for each in SPANS
    ]
    lines += ["", "| span | attribute | type | meaning |", "|---|---|---|---|"]
    for spec in SPANS:
        for attribute in spec.attributes:
            note = "" if attribute.is_always else " *"
            lines.append(
                f"| `{spec.name}` | `{attribute.name}`{note} | {attribute.type.__name__} |"
                f" {attribute.meaning} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
