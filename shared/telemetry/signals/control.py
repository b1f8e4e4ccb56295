"""Signals of the controller: what it decides, what it learns from, and how Redis takes it."""

from shared.telemetry.signals.cell import LABELS
from shared.telemetry.signals.row import Kind, Service, Signal

# Deciding is to cost a hundredth of a step.
DECIDE_BOUNDS_US = (10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 250.0, 500.0, 1000.0, 5000.0)
RATIO_BOUNDS = (0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)


def _signal(
    name: str, kind: Kind, unit: str, text: str, *labels: str, bounds: tuple[float, ...] = ()
) -> Signal:
    full = f"shortstack_control_{name}"
    return Signal(full, kind, unit, text, (Service.VERIFY,), (*LABELS, *labels), bounds)


def _counter(name: str, unit: str, text: str, *labels: str) -> Signal:
    return _signal(name, Kind.COUNTER, unit, text, *labels)


def _gauge(name: str, unit: str, text: str, *labels: str) -> Signal:
    return _signal(name, Kind.GAUGE, unit, text, *labels)


CONTROL_SIGNALS = (
    # Decisions.
    _counter("decisions_total", "rounds", "Rounds by the reason of their decision.", "reason"),
    _counter("mode_switches_total", "switches", "Sessions' changes between drafting and plain."),
    _counter("arm_changes_total", "changes", "Sessions' changes of exit, length or threshold."),
    _counter("drafted_total", "tokens", "Draft tokens verified.", "policy", "exit_layer"),
    _counter("accepted_total", "tokens", "Draft tokens accepted.", "policy", "exit_layer"),
    _counter("emitted_total", "tokens", "Tokens that rounds emitted.", "policy", "exit_layer"),
    _counter(
        "places_reached_total",
        "drafts",
        "Drafts at a place (from 1) all before which were accepted, by exit.",
        "exit_layer",
        "place",
    ),
    _counter(
        "places_kept_total",
        "drafts",
        "Of these, drafts accepted: kept / reached is the chance of a draft at its place.",
        "exit_layer",
        "place",
    ),
    _signal(
        "decide_us",
        Kind.HISTOGRAM,
        "us",
        "Deciding for all sessions of a step, prompts included.",
        bounds=DECIDE_BOUNDS_US,
    ),
    # What decisions rest on.
    _signal(
        "predicted_over_actual",
        Kind.HISTOGRAM,
        "ratio",
        "Tokens per time that the plan in force expected of a step over what the step delivered."
        " Of plain steps in a row in which nothing is decided anew: of one in 16.",
        "mode",
        bounds=RATIO_BOUNDS,
    ),
    _gauge(
        "cost_us",
        "us",
        "What steps take, as the controller has it: a pass of so many rows through all layers, a "
        "draft step of so many rows at an exit.",
        "phase",
        "exit_layer",
        "rows",
    ),
    _gauge("shadow_share", "ratio", "Share of sessions' time spent on reading exits as evidence."),
    _counter("alarms_total", "alarms", "Times that a session's text was found to have changed."),
    _counter("guard_total", "trips", "Times that a session's drafts were stopped as too slow."),
    _gauge(
        "arbiter_off", "levels", "Levels of load at which plain steps were measured to be faster."
    ),
    _gauge(
        "reads_evidence",
        "bool",
        "0 where exits cannot be read as the draft worker reads them: nothing is learned of them.",
    ),
    # The search for skip sets.
    _gauge("streams", "streams", "Task streams by where their search stands.", "phase"),
    _counter("looks_total", "looks", "Skip sets looked at on a piece of text, each a pass."),
    _counter("looks_us_total", "us", "Time that these took."),
    # Redis.
    _gauge("redis_degraded", "bool", "1 while Redis, where one is configured, is away."),
    _counter(
        "redis_us_total", "us", "Time until Redis answered, or no longer waited for.", "script"
    ),
    _counter("redis_calls_total", "calls", "Tries by operation and outcome.", "script", "result"),
    _counter("flush_total", "states", "Sessions' states handed to Redis, by outcome.", "result"),
    _counter(
        "dropped_total",
        "items",
        "What waited for Redis and was dropped: states, counts, or counts that are too old.",
        "item",
    ),
    Signal(
        "shortstack_controller_degraded",
        Kind.GAUGE,
        "bool",
        "1 while decisions rest on less than they should: Redis is away, or exits go unread.",
        (Service.VERIFY,),
        LABELS,
    ),
)
