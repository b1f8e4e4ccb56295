"""Signals of a verify worker: rounds, passes, sessions and memory of its cell."""

from shared.telemetry.signals.row import (
    COUNT_BOUNDS,
    FINE_BOUNDS_S,
    STEP_BOUNDS_S,
    Kind,
    Service,
    Signal,
)

# Named first by every signal that a cell emits.
LABELS = ("cell",)


def _signal(
    name: str, kind: Kind, unit: str, text: str, *labels: str, bounds: tuple[float, ...] = ()
) -> Signal:
    services = (Service.VERIFY,)
    return Signal(f"shortstack_{name}", kind, unit, text, services, (*LABELS, *labels), bounds)


def _counter(name: str, unit: str, text: str, *labels: str) -> Signal:
    return _signal(name, Kind.COUNTER, unit, text, *labels)


def _gauge(name: str, unit: str, text: str, *labels: str) -> Signal:
    return _signal(name, Kind.GAUGE, unit, text, *labels)


def _times(name: str, text: str, bounds: tuple[float, ...] = STEP_BOUNDS_S) -> Signal:
    return _signal(name, Kind.HISTOGRAM, "seconds", text, bounds=bounds)


CELL_SIGNALS = (
    # Rounds.
    _counter(
        "rounds_total",
        "rounds",
        "Rounds committed, as they came: one without drafts is `off` at exit layer 0.",
        "method",
        "exit_layer",
        "policy",
    ),
    _counter("draft_tokens_total", "tokens", "Draft tokens verified.", "method", "exit_layer"),
    _counter("accepted_tokens_total", "tokens", "Draft tokens kept.", "method", "exit_layer"),
    _counter(
        "emitted_tokens_total",
        "tokens",
        "Tokens emitted: accepted, recovered, bonus, or plain (the first token of a session too).",
        "source",
    ),
    _counter(
        "speculation_shed_total",
        "rounds",
        "Rounds left plain because drafts would have cost more than they bring at this load.",
    ),
    _counter("late_responses_total", "rounds", "Drafts of rounds that were over: dropped."),
    _counter("fenced_rounds_total", "rounds", "Rounds abandoned: overdue, or their worker lost."),
    _counter("malformed_drafts_total", "rounds", "Drafts that did not fit their round."),
    _times("round_seconds", "A round, from its plan to its commit, once per session in it."),
    _times("draft_seconds", "The draft phase of a step, as the draft worker took it."),
    _times(
        "hand_over_seconds",
        "What a step waited for its drafts beyond the time that they took: messages, queue, wake.",
        FINE_BOUNDS_S,
    ),
    _times("verify_seconds", "A verify pass, head and choices included."),
    # Passes.
    _counter("passes_total", "passes", "Verify passes."),
    _signal(
        "pass_sessions",
        Kind.HISTOGRAM,
        "sessions",
        "Sessions whose rounds share a pass.",
        bounds=COUNT_BOUNDS,
    ),
    _signal(
        "pass_rows",
        Kind.HISTOGRAM,
        "rows",
        "Rows of a pass, by what they are for: decode (pending token and drafts), prefill.",
        "phase",
        bounds=COUNT_BOUNDS,
    ),
    # Sessions.
    _gauge(
        "sessions",
        "sessions",
        "Sessions by state: waiting, prefill, decode, paused (their client does not read).",
        "state",
    ),
    _gauge("max_sessions", "sessions", "Sessions that may hold pages at a time."),
    _gauge("is_draining", "bool", "1 while the worker takes no new sessions."),
    # Workers.
    _gauge("cell_kind", "bool", "How the cell is built: 1 for split, fused or plain.", "kind"),
    _gauge("draft_workers", "workers", "Draft workers attached."),
    _gauge(
        "is_speculating",
        "bool",
        "1 while rounds may have drafts: a draft worker is attached, sane and not behind.",
    ),
    _counter("attachments_total", "attachments", "Times that a draft worker was attached."),
    _gauge("transport", "bool", "How the cell shares memory: 1 for the kind in use.", "kind"),
    # Memory.
    _gauge(
        "kv_pages",
        "pages",
        "Pages of the pool by state: free, used (by sessions), shared (of these, held by several "
        "sessions or by the prefix cache too), cached (by the prefix cache alone), quarantined. "
        "free + used + cached + quarantined is the pool.",
        "state",
    ),
    _gauge("quarantined_workers", "workers", "Draft workers that quarantined pages wait for."),
)
