"""Signals that every service tells of itself; those of the process come from prometheus-client."""

from shared.telemetry.signals.row import ALL_SERVICES, Kind, Service, Signal


def _of_process(name: str, kind: Kind, unit: str, text: str) -> Signal:
    return Signal(f"process_{name}", kind, unit, text, ALL_SERVICES)


OWN_PROCESS_SIGNALS = (
    Signal(
        "shortstack_build_info",
        Kind.GAUGE,
        "bool",
        "1: the version that runs, and the model that it serves.",
        ALL_SERVICES,
        ("service", "version", "model_name"),
    ),
    Signal(
        "shortstack_row_layers_total",
        Kind.COUNTER,
        "rows",
        "Rows that went through a layer, summed over layers: the work that was done.",
        (Service.VERIFY, Service.DRAFT),
    ),
    Signal(
        "shortstack_head_rows_total",
        Kind.COUNTER,
        "rows",
        "Rows that went through the output head.",
        (Service.VERIFY, Service.DRAFT),
    ),
)
# Exposed by `prometheus_client.ProcessCollector`, on Linux.
PROCESS_SIGNALS = (
    _of_process("cpu_seconds_total", Kind.COUNTER, "seconds", "CPU time used."),
    _of_process("resident_memory_bytes", Kind.GAUGE, "bytes", "Memory resident."),
    _of_process("virtual_memory_bytes", Kind.GAUGE, "bytes", "Memory mapped."),
    _of_process("start_time_seconds", Kind.GAUGE, "seconds", "Start, since 1970."),
    _of_process("open_fds", Kind.GAUGE, "files", "Files and sockets open."),
    _of_process("max_fds", Kind.GAUGE, "files", "Files and sockets that may be open."),
)
