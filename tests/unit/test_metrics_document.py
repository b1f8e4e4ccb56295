"""docs/metrics.md and the table of signals agree."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_document_lists_every_signal() -> None:
    script = REPOSITORY / "scripts" / "metrics.py"
    result = subprocess.run(
        [sys.executable, script, "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
