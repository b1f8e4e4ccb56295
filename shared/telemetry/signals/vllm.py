"""Signals that dashboards made for vLLM read, under vLLM's names.

The verify worker alone emits them: a second source would double every sum.
"""

from shared.telemetry.signals.row import (
    LEN_BOUNDS,
    REQUEST_BOUNDS_S,
    STEP_BOUNDS_S,
    Kind,
    Service,
    Signal,
)

# `engine` is the id of the cell.
LABELS = ("model_name", "engine")


def _signal(
    name: str, kind: Kind, unit: str, text: str, *labels: str, bounds: tuple[float, ...] = ()
) -> Signal:
    return Signal(f"vllm:{name}", kind, unit, text, (Service.VERIFY,), (*LABELS, *labels), bounds)


def _counter(name: str, unit: str, text: str, *labels: str) -> Signal:
    return _signal(name, Kind.COUNTER, unit, text, *labels)


def _times(name: str, text: str, bounds: tuple[float, ...] = REQUEST_BOUNDS_S) -> Signal:
    return _signal(name, Kind.HISTOGRAM, "seconds", text, bounds=bounds)


def _lengths(name: str, text: str) -> Signal:
    return _signal(name, Kind.HISTOGRAM, "tokens", text, bounds=LEN_BOUNDS)


VLLM_SIGNALS = (
    _counter("spec_decode_num_drafts_total", "rounds", "Rounds with at least one draft token."),
    _counter("spec_decode_num_draft_tokens_total", "tokens", "Draft tokens verified."),
    _counter("spec_decode_num_accepted_tokens_total", "tokens", "Draft tokens accepted."),
    _counter(
        "spec_decode_num_accepted_tokens_per_pos_total",
        "tokens",
        "Draft tokens accepted, by their place in the draft, from 0.",
        "position",
    ),
    _counter(
        "prompt_tokens_total", "tokens", "Prompt tokens of sessions whose first token is out."
    ),
    _counter("generation_tokens_total", "tokens", "Tokens emitted."),
    _counter(
        "request_success_total",
        "sessions",
        "Sessions that ended: stop, length, or abort (cancelled by the gateway or moved; a stop "
        "string is seen by the gateway, which then cancels).",
        "finished_reason",
    ),
    _counter("num_preemptions_total", "sessions", "Times that a session lost its pages."),
    _counter("prefix_cache_queries_total", "tokens", "Tokens looked up in the prefix cache."),
    _counter("prefix_cache_hits_total", "tokens", "Of these, tokens that were found."),
    _signal("num_requests_running", Kind.GAUGE, "sessions", "Sessions that hold pages."),
    _signal("num_requests_waiting", Kind.GAUGE, "sessions", "Sessions that wait for pages."),
    _signal(
        "kv_cache_usage_perc",
        Kind.GAUGE,
        "ratio",
        "Share of the pages that sessions or abandoned rounds hold, 0 to 1; what only the prefix "
        "cache holds counts as free.",
    ),
    _times("time_to_first_token_seconds", "From a session's arrival to its first token."),
    _times(
        "inter_token_latency_seconds",
        "From one commit of a session to the next: one value per round, which emits several "
        "tokens where drafts are accepted.",
        STEP_BOUNDS_S,
    ),
    _times("e2e_request_latency_seconds", "From a session's arrival to its end."),
    _times("request_queue_time_seconds", "From a session's arrival to its pages."),
    _times("request_prefill_time_seconds", "From a session's pages to its first token."),
    _times("request_decode_time_seconds", "From a session's first token to its end."),
    _lengths("request_prompt_tokens", "Prompt tokens of sessions that ended."),
    _lengths("request_generation_tokens", "Tokens emitted by sessions that ended."),
)
