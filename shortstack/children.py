"""Child processes of the local stack: started in a group of their own, logged to a file each.

Knows nothing of what the children do. A child ends with its parent (see `launch`); `Guard` cleans
up behind a parent that was killed. Start children from a thread that lives as long as they should:
the kernel counts the starting thread's death as the parent's.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortstack import guard, launch

NUM_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What to start: a name for logs and tables, the command, its whole environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]


class LogReader:
    """Follows a log file from a place on; yields the JSON objects of the lines that are new."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    def read(self) -> list[dict[str, Any]]:
        """Return the events of complete lines written since the last call."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [event for line in complete.splitlines() if (event := _parse(line)) is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object of a line; libraries also write lines that are none."""
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


class Child:
    """One running child process."""

    def __init__(self, plan: ChildPlan, log_path: Path) -> None:
        """Start the process; its stdout and stderr are appended to the log."""
        self.plan = plan
        self.log_path = log_path
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        with log_path.open("ab") as log:
            # What is there already was said by another process, under another address perhaps.
            start = log.tell()
            self._process = subprocess.Popen(
                [*launcher, *plan.command],
                env=dict(plan.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.log = LogReader(log_path, start)

    @property
    def name(self) -> str:
        """Name of the child."""
        return self.plan.name

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child's group, unless it has ended."""
        if self.exit_status is None:
            os.killpg(self.pid, number)

    def describe_end(self) -> str:
        """Say how the child ended, with the last lines of its log."""
        status = self.exit_status
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return f"{self.name} ended with {how}; its last lines ({self.log_path}):\n{self.tail()}"

    def tail(self) -> str:
        """Return the last lines of the log, indented."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-NUM_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (no output)"


class Guard:
    """The process that cleans up when this one is killed before it could."""

    def __init__(self, runtime_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(runtime_dir)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def watch(self, child: Child) -> None:
        """Name a child that must not be left behind."""
        self._write(f"watch {child.pid}\n")

    def forget(self, child: Child) -> None:
        """Name a child that has ended, as its process id may be given to another."""
        self._write(f"forget {child.pid}\n")

    def close(self) -> None:
        """Let the guard do what is left to do, and wait for it."""
        self._process.communicate()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
