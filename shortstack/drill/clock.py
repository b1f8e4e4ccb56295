"""A wall clock that can be set: libfaketime, loaded into every process of a stack.

It reads how far it is ahead from a file, once a second. Monotonic clocks are left alone, as they
are where somebody sets the clock of a machine.
"""

import importlib.util
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from shortstack.drill.errors import CannotRun
from shortstack.guard import SHM_DIR

FILE = "FAKETIME_TIMESTAMP_FILE"
BUNDLED = "vendor/libfaketime/src/libfaketime.so.1"
LIBRARY_FILES = ("faketime_shm_", "sem.faketime_sem_")
# Debian's package faketime, by architecture.
INSTALLED = "/usr/lib/*-linux-gnu/faketime/libfaketime.so.1"


def find_library() -> Path:
    """Return the library, of the Python package or of the system.

    Raises:
        CannotRun: there is none; says what to install.
    """
    spec = importlib.util.find_spec("libfaketime")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / BUNDLED
        if bundled.exists():
            return bundled
    for path in Path("/").glob(INSTALLED.removeprefix("/")):
        return path
    raise CannotRun("no clock that can be set: `pip install libfaketime` or install `faketime`")


def clock_environ(folder: Path) -> dict[str, str]:
    """Return what makes processes read their wall clock from a file in the folder.

    Raises:
        CannotRun: the library is not there.
    """
    environ = {
        "LD_PRELOAD": str(find_library()),
        FILE: str(folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    set_clock(environ, 0)
    return environ


def set_clock(environ: Mapping[str, str], ahead_s: int) -> None:
    """Set the clock of the processes of this environment so far ahead of the machine's."""
    Path(environ[FILE]).write_text(f"+{ahead_s}\n", encoding="ascii")


def library_files() -> frozenset[Path]:
    """Return what the library keeps in shared memory, for each process that has loaded it."""
    return frozenset(each for kind in LIBRARY_FILES for each in SHM_DIR.glob(f"{kind}*"))


def remove_left_behind(before: frozenset[Path]) -> None:
    """Remove what has been added and belongs to nobody: killed processes take nothing along."""
    for path in library_files() - before:
        pid = path.name.rpartition("_")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            path.unlink(missing_ok=True)


def is_ahead(stamp: str, ahead_s: int) -> bool:
    """Say whether a log's time stamp is about so far ahead of this process's clock."""
    if not stamp:
        return False
    ahead = datetime.fromisoformat(stamp) - datetime.now(UTC)
    return ahead > timedelta(seconds=ahead_s / 2)
