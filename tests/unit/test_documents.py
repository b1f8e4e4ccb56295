"""What README and docs name exists: links, settings, metrics, commands, flags, files."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

WRONG = """# Heading

[gone](gone.md), [there](#heading), [not there](#footing); `SHORTSTACK_VERIFY__LISTEN`,
`SHORTSTACK_VERIFY__LISTENS`, `VERIFY__MAX_SESSION`, `shortstack_draft_workers`, `vllm:num_drafts`,
`shared/gone.py`, `shared/errors.py`, `make bread`, `python -m services.gone`.

    shortstack up --cells 2 --cellars 3
    shortstack bench ways
    shortstack keys list FILE

```console
$ .venv/bin/shortstack brew --hot
```
"""


def documents(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [sys.executable, str(REPOSITORY / "scripts" / "documents.py"), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_documents_name_what_exists() -> None:
    result = documents()
    assert result.returncode == 0, result.stdout


def test_what_does_not_exist_is_found(tmp_path: Path) -> None:
    path = tmp_path / "wrong.md"
    path.write_text(WRONG, encoding="utf-8")
    result = documents(str(path))
    assert result.returncode == 1
    assert [line.removeprefix(f"{path}: ") for line in result.stdout.splitlines()] == [
        "link to gone.md",
        "anchor #footing",
        "setting SHORTSTACK_VERIFY__LISTENS",
        "setting VERIFY__MAX_SESSION",
        "metric vllm:num_drafts",
        "command shortstack brew",
        "flag --cellars of shortstack up",
        "command shortstack bench ways",
        "module services.gone",
        "make bread",
        "path shared/gone.py",
    ]
