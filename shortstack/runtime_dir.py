"""The runtime folder of a local stack: sockets, lock files and logs, for this user's eyes only."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from shortstack.errors import StackError

# A unix socket's path is limited to 107 bytes; the longest name below the folder takes 30 of them.
MAX_SOCKET_PATH_LEN = 100
LONGEST_NAME = "/cell-000/verify.sock.liveness"
PREFIX = "shortstack-"


def make_runtime_dir() -> Path:
    """Make a new folder with mode 0700 where socket paths stay short enough.

    Raises:
        StackError: every place is missing, not writable or too deep.
    """
    candidates = list(_candidates())
    for base in candidates:
        if _fits(base):
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    places = ", ".join(str(base) for base in candidates)
    raise StackError(f"no writable folder with a short path for sockets; tried {places}")


def _candidates() -> Iterable[Path]:
    if configured := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(configured)
    yield Path(tempfile.gettempdir())
    yield Path("/tmp")


def _fits(base: Path) -> bool:
    longest = f"{base}/{PREFIX}00000000{LONGEST_NAME}"
    is_usable = base.is_dir() and os.access(base, os.W_OK | os.X_OK)
    return is_usable and len(longest.encode()) < MAX_SOCKET_PATH_LEN
