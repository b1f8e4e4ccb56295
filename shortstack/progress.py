"""Shows how long work goes on: a bar per stage, on a terminal; silent elsewhere."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """A live display of bars; a context manager."""

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

    def show(self, label: str, done: int | None, total: int | None) -> None:
        """Set the bar of a label, which is added when it is first met."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label)
        self._progress.update(self._tasks[label], completed=done, total=total)

    def tell(self, line: str) -> None:
        """Print a line above the bars, on a terminal or not."""
        self._progress.console.print(line, soft_wrap=True)


class StartProgress(Bars):
    """How a stack comes up: a bar for every child that reports. Give `observe` to the stack."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._progress.add_task("starting the stack", total=None)
        return self

    def observe(self, name: str, event: dict[str, Any]) -> None:
        """Take one log event of a child."""
        if event.get("event") == "progress":
            label = f"{name}: {event.get('stage', '')}"
            self.show(label, event.get("done"), event.get("total"))
