"""How far a measurement is: one line on a terminal's stderr."""

import json
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from shortstack.bench.open_bench import Watcher


class TurnProgress:
    """One line on a terminal's stderr; drawn between turns, so that it disturbs none of them."""

    def __init__(self, num_turns: int, *, tells_stages: bool = False) -> None:
        """Expect so many turns, 0: unknown; off a terminal, stages are told as lines if wished."""
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description} {task.fields[turns]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._task = TaskID(0)
        self._of_all = f"/{num_turns}" if num_turns else ""
        self._tells_stages = tells_stages and not console.is_terminal
        self._num_done = 0
        self._started_s = time.monotonic()
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> "TurnProgress":
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None, turns="")
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def watcher(self) -> Watcher:
        """Return what the measurement tells."""
        return Watcher(self._on_stage, self._on_turn, self._on_event)

    def _on_event(self, name: str, event: dict[str, Any]) -> None:
        """Pass each warning of the stack on, once: a lost draft worker explains a slow pipeline."""
        told = (name, str(event.get("event")))
        if event.get("level") in ("WARNING", "ERROR", "CRITICAL") and told not in self._told:
            self._told.add(told)
            line = f"{name}: {json.dumps(event)}"
            self._progress.console.print(line, highlight=False, soft_wrap=True)

    def _on_stage(self, stage: str) -> None:
        if self._tells_stages:
            line = f"{time.monotonic() - self._started_s:6.0f} s  {stage}"
            self._progress.console.print(line, highlight=False, soft_wrap=True)
        self._progress.update(self._task, description=stage, turns="")
        self._progress.refresh()

    def _on_turn(self) -> None:
        self._num_done += 1
        self._progress.update(self._task, turns=f"{self._num_done}{self._of_all}")
        self._progress.refresh()
