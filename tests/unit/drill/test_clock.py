"""The clock that can be set leaves nothing behind, and takes nothing from others."""

import os
import subprocess

from shortstack.drill.clock import library_files, remove_left_behind
from shortstack.guard import SHM_DIR


def test_only_files_of_dead_processes_that_came_since_are_removed() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    before = library_files()
    dead, alive = (SHM_DIR / f"faketime_shm_{pid}" for pid in (child.pid, os.getpid()))
    try:
        for path in (dead, alive):
            path.touch()
        remove_left_behind(library_files())
        assert dead.exists(), "it had been there before"
        remove_left_behind(before)
        assert not dead.exists() and alive.exists()
    finally:
        dead.unlink(missing_ok=True)
        alive.unlink(missing_ok=True)
