"""Starts a program that ends when its parent does: `launch.py PARENT_PID PROGRAM ARGUMENTS`.

Asks the kernel for SIGTERM at the parent's death and becomes the program; the wish survives the
exec, so nothing outlives a parent that was killed with -9. Standard library only: it runs without
site-packages, as the shortest way into the program. Systems other than Linux lack the call; there
the guard alone cleans up.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then become the program."""
    parent_pid, program = int(arguments[0]), arguments[1]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit(f"the parent {parent_pid} ended before {program} was started")
    os.execv(program, arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
