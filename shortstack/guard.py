"""Cleans up behind a stack whose parent was killed: `python -I -S guard.py RUNTIME_DIR`.

Reads `watch PID` and `forget PID` on stdin. At the end of the input, which the death of the parent
brings about, the watched processes get SIGTERM and later SIGKILL, and the runtime folder and
whatever they left in /dev/shm are removed. Standard library only, as it runs without site-packages.
"""

import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

TERM_TIMEOUT_S = 5.0
POLL_S = 0.05
SHM_DIR = Path("/dev/shm")
SEGMENT_PATTERN = f"shortstack-{os.getuid()}-*"


def main(runtime_dir: Path) -> None:
    """Watch until the parent is gone, then clean up."""
    pids = watch()
    end_processes(pids)
    remove_orphaned_segments()
    shutil.rmtree(runtime_dir, ignore_errors=True)


def watch() -> set[int]:
    """Follow the parent's list of children until it closes the pipe."""
    pids: set[int] = set()
    for line in sys.stdin:
        verb, pid = line.split()
        if verb == "watch":
            pids.add(int(pid))
        else:
            pids.discard(int(pid))
    return pids


def end_processes(pids: set[int]) -> None:
    """Ask the processes to end, and insist after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(is_running, pids):
            os.killpg(pid, number)
        deadline = time.monotonic() + TERM_TIMEOUT_S
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def is_running(pid: int) -> bool:
    """Return whether a process group still has a leader that runs; a zombie does not."""
    try:
        os.killpg(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def remove_orphaned_segments() -> None:
    """Remove this user's shared memory whose owner's lock is free: the owner is dead."""
    for path in SHM_DIR.glob(SEGMENT_PATTERN):
        try:
            with path.open("rb") as segment:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue  # alive, or already gone


if __name__ == "__main__":
    main(Path(sys.argv[1]))
