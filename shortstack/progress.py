"""Shows how a stack comes up: a bar for every child that reports progress, or plain lines."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class StartProgress:
    """A live display on a terminal; silent elsewhere. Give `observe` to the stack."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        self._tasks["stack"] = self._progress.add_task("starting the stack", total=None)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def add_bar(self, label: str, total: int) -> Callable[[], None]:
        """Add a bar of one's own; the answer advances it by one."""
        task = self._progress.add_task(label, total=total)
        return lambda: self._progress.advance(task)

    def observe(self, name: str, event: dict[str, Any]) -> None:
        """Take one log event of a child."""
        if event.get("event") != "progress":
            return
        label = f"{name}: {event.get('stage', '')}"
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label)
        self._progress.update(
            self._tasks[label], completed=event.get("done"), total=event.get("total")
        )
