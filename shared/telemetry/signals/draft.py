"""Signals of a draft worker: the batches that it drafts."""

from shared.telemetry.signals.row import (
    COUNT_BOUNDS,
    FINE_BOUNDS_S,
    STEP_BOUNDS_S,
    Kind,
    Service,
    Signal,
)

DRAFT = (Service.DRAFT,)

DRAFT_SIGNALS = (
    Signal("shortstack_draft_rounds_total", Kind.COUNTER, "rounds", "Rounds drafted.", DRAFT),
    Signal(
        "shortstack_draft_steps_total",
        Kind.COUNTER,
        "rows",
        "Draft steps, one per row, closing ones included; tokens beside a chain have none.",
        DRAFT,
    ),
    Signal(
        "shortstack_draft_rounds_refused_total",
        Kind.COUNTER,
        "rounds",
        "Rounds answered with an error: superseded, or handles that do not fit.",
        DRAFT,
    ),
    Signal(
        "shortstack_draft_rounds_repeated_total",
        Kind.COUNTER,
        "rounds",
        "Rounds that were asked for again, and answered from memory.",
        DRAFT,
    ),
    Signal(
        "shortstack_draft_batch_seconds",
        Kind.HISTOGRAM,
        "seconds",
        "Drafting the rounds of one message.",
        DRAFT,
        bounds=STEP_BOUNDS_S,
    ),
    Signal(
        "shortstack_draft_queue_seconds",
        Kind.HISTOGRAM,
        "seconds",
        "From a message's arrival to its turn.",
        DRAFT,
        bounds=FINE_BOUNDS_S,
    ),
    Signal(
        "shortstack_draft_batch_rounds",
        Kind.HISTOGRAM,
        "rounds",
        "Rounds of one message.",
        DRAFT,
        bounds=COUNT_BOUNDS,
    ),
    Signal(
        "shortstack_draft_is_attached",
        Kind.GAUGE,
        "bool",
        "1 while a verify worker's memory is mapped.",
        DRAFT,
    ),
    Signal(
        "shortstack_draft_loaded_layers",
        Kind.GAUGE,
        "layers",
        "Layers of the model that are in memory.",
        DRAFT,
    ),
)
