"""The table: every signal of every service, once."""

from shared.telemetry.signals.cell import CELL_SIGNALS
from shared.telemetry.signals.control import CONTROL_SIGNALS
from shared.telemetry.signals.draft import DRAFT_SIGNALS
from shared.telemetry.signals.gateway import GATEWAY_SIGNALS
from shared.telemetry.signals.process import OWN_PROCESS_SIGNALS, PROCESS_SIGNALS
from shared.telemetry.signals.row import Service, Signal
from shared.telemetry.signals.vllm import VLLM_SIGNALS

# By the heading under which the document lists them.
CHAPTERS = {
    "Under vLLM's names": VLLM_SIGNALS,
    "The cell": CELL_SIGNALS,
    "The controller": CONTROL_SIGNALS,
    "The gateway": GATEWAY_SIGNALS,
    "The draft worker": DRAFT_SIGNALS,
    "Every service": OWN_PROCESS_SIGNALS,
}
# Those that services find a source for.
OWN_SIGNALS = tuple(signal for chapter in CHAPTERS.values() for signal in chapter)
SIGNALS = (*OWN_SIGNALS, *PROCESS_SIGNALS)


def own_signals_of(service: Service) -> tuple[Signal, ...]:
    """Return the rows that a service finds a source for, in the table's order."""
    return tuple(signal for signal in OWN_SIGNALS if service in signal.services)


def bounds_of(name: str) -> tuple[float, ...]:
    """Return the bounds of a histogram's buckets.

    Raises:
        KeyError: the table has no such histogram.
    """
    return _BOUNDS[name]


_BOUNDS = {signal.name: signal.bounds for signal in OWN_SIGNALS if signal.bounds}
