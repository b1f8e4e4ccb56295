"""docs/configuration.md and the settings classes list one set of variables."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_document_lists_every_variable_with_its_default_and_meaning() -> None:
    script = REPOSITORY / "scripts" / "configuration.py"
    result = subprocess.run(
        [sys.executable, script, "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
