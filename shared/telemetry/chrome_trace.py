"""A trace of spans on lanes, as a file that Perfetto (ui.perfetto.dev) and chrome://tracing show.

Spans are kept in memory, the newest `max_spans` of them, and written when asked for, as the JSON of
the Trace Event Format ("X" events). Times are ns of the machine's monotonic clock, so lanes of
several processes of one machine line up.
"""

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A minute under load is some ten thousand steps of four spans.
MAX_SPANS = 200_000
Figures = Mapping[str, int | float | str]


class ChromeTrace:
    """Spans of one process; one thread notes them."""

    def __init__(self, path: Path, process_name: str, max_spans: int = MAX_SPANS) -> None:
        """Keep spans for a file; nothing is written yet."""
        self._path = path
        self._process_name = process_name
        self._spans: deque[tuple[str, str, int, int, Figures]] = deque(maxlen=max_spans)

    def span(
        self, lane: str, name: str, start_ns: int, end_ns: int, figures: Figures | None = None
    ) -> None:
        """Note that something took from one point in time to another."""
        self._spans.append((lane, name, start_ns, end_ns, figures or {}))

    def write(self) -> Path:
        """Write what is kept; return the file.

        Raises:
            OSError: the file cannot be written.
        """
        spans = list(self._spans)
        lanes = {lane: index for index, lane in enumerate(sorted({span[0] for span in spans}))}
        events = [_named("process_name", 0, self._process_name)]
        events += [_named("thread_name", index, lane) for lane, index in lanes.items()]
        events += [
            {
                "name": name,
                "ph": "X",
                "pid": 0,
                "tid": lanes[lane],
                "ts": start_ns / 1000,
                "dur": (end_ns - start_ns) / 1000,
                "args": dict(figures),
            }
            for lane, name, start_ns, end_ns, figures in spans
        ]
        text = json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
        self._path.write_text(text, encoding="utf-8")
        return self._path


def _named(kind: str, lane_index: int, name: str) -> dict[str, Any]:
    """Return the metadata event that names a process or a lane."""
    return {"name": kind, "ph": "M", "pid": 0, "tid": lane_index, "args": {"name": name}}
