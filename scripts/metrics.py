"""Writes the tables of docs/metrics.md from the table of signals, or checks that they agree.

python scripts/metrics.py           write
python scripts/metrics.py --check   exit status 1 if the document is stale
"""

import sys
from pathlib import Path

from marked_tables import write_or_check

from shared.telemetry.signals.row import Signal
from shared.telemetry.signals.table import CHAPTERS, PROCESS_SIGNALS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
MARKS = ("<!-- tables: made by scripts/metrics.py -->", "<!-- end of the tables -->")
BY_PROCESS = "The process, as prometheus-client tells it"


def main(arguments: list[str]) -> int:
    """Write or check the document."""
    return write_or_check(DOCUMENT, MARKS, tables(), arguments, "python scripts/metrics.py")


def tables() -> str:
    """Return one table per chapter."""
    chapters = {**CHAPTERS, BY_PROCESS: PROCESS_SIGNALS}
    return "\n".join(table(heading, signals) for heading, signals in chapters.items())


def table(heading: str, signals: tuple[Signal, ...]) -> str:
    """Return the table of a chapter."""
    lines = [
        f"### {heading}",
        "",
        "| name | type | unit | labels | of | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for signal in signals:
        labels = ", ".join(f"`{label}`" for label in signal.labels)
        services = ", ".join(signal.services)
        lines.append(
            f"| `{signal.name}` | {signal.kind} | {signal.unit} | {labels} | {services} "
            f"| {signal.help} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
