"""Signals of the gateway: requests as clients see them, and the cells that they may go to.

Durations carry the names that OpenTelemetry's conventions for generative AI give them, written as
Prometheus writes them.
"""

from shared.telemetry.signals.row import REQUEST_BOUNDS_S, Kind, Service, Signal

GATEWAY = (Service.GATEWAY,)
GEN_AI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
TOKEN_BOUNDS_S = (
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
    0.75, 1.0, 2.5,
)  # fmt: skip

GATEWAY_SIGNALS = (
    Signal(
        "shortstack_gateway_requests_total",
        Kind.COUNTER,
        "requests",
        "Requests that ended, by gRPC status and finish reason (`none` where an error ended them).",
        GATEWAY,
        ("status", "finish_reason"),
    ),
    Signal(
        "shortstack_requests_refused_total",
        Kind.COUNTER,
        "requests",
        "Requests (gateway) or sessions (verify worker) that an error ended before they had begun, "
        "by the error's class. What a cell refuses may run on another: do not add the two up.",
        (Service.GATEWAY, Service.VERIFY),
        ("service", "reason"),
    ),
    Signal(
        "shortstack_replays_total",
        Kind.COUNTER,
        "replays",
        "Moves of a request to another cell, by the request's end: finished, failed, cancelled.",
        GATEWAY,
        ("outcome",),
    ),
    Signal(
        "shortstack_gateway_requests_running",
        Kind.GAUGE,
        "requests",
        "Requests that hold a place.",
        GATEWAY,
    ),
    Signal(
        "shortstack_gateway_requests_waiting",
        Kind.GAUGE,
        "requests",
        "Requests that wait for a place.",
        GATEWAY,
    ),
    Signal(
        "shortstack_gateway_max_running",
        Kind.GAUGE,
        "requests",
        "Requests that may hold a place at a time.",
        GATEWAY,
    ),
    Signal(
        "shortstack_gateway_tokens_total",
        Kind.COUNTER,
        "tokens",
        "Tokens of requests that ended: prompt, cached of it, emitted, drafted, accepted.",
        GATEWAY,
        ("kind",),
    ),
    Signal(
        "shortstack_gateway_queue_seconds",
        Kind.HISTOGRAM,
        "seconds",
        "From a request's arrival to its place.",
        GATEWAY,
        bounds=REQUEST_BOUNDS_S,
    ),
    Signal(
        "shortstack_gateway_cells",
        Kind.GAUGE,
        "cells",
        "Cells by state: ready, draining, failing (nothing is sent there for a while).",
        GATEWAY,
        ("state",),
    ),
    Signal(
        "gen_ai_server_request_duration_seconds",
        Kind.HISTOGRAM,
        "seconds",
        "From a request's arrival to its end; `error_type` is empty where no error ended it.",
        GATEWAY,
        (*GEN_AI_LABELS, "error_type"),
        REQUEST_BOUNDS_S,
    ),
    Signal(
        "gen_ai_server_time_to_first_token_seconds",
        Kind.HISTOGRAM,
        "seconds",
        "From a request's arrival to its first token.",
        GATEWAY,
        GEN_AI_LABELS,
        REQUEST_BOUNDS_S,
    ),
    Signal(
        "gen_ai_server_time_per_output_token_seconds",
        Kind.HISTOGRAM,
        "seconds",
        "Time per token behind the first, in the mean of a request.",
        GATEWAY,
        GEN_AI_LABELS,
        TOKEN_BOUNDS_S,
    ),
)
