"""What a run prints: a bar, and after each evaluation a table of its scores.

Knows nothing of the recipe; it reads the Trainer's logs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.evaluate import ExitScores
from training.quality import Quality


class ProgressView(TrainerCallback):
    """Bar and tables of one run, on the first process of each only.

    make_table: shows the scores of now, under a title.
    """

    def __init__(self, console: Console, make_table: Callable[[str], Table]) -> None:
        self.console = console
        self.make_table = make_table
        self.bar = Progress(
            TextColumn("step {task.completed:,.0f} of {task.total:,.0f}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the bar."""
        if state.is_world_process_zero:
            self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step)
            self.bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar."""
        if state.is_world_process_zero:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the loss; say it as a line where no bar can be seen."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        text = f"loss {logs['loss']:.3f}"
        self.bar.update(self.task, description=text)
        if not self.console.is_terminal:
            self.console.print(f"step {state.global_step:,} of {state.max_steps:,}: {text}")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the scores."""
        if state.is_world_process_zero:
            self.console.print(self.make_table(f"step {state.global_step:,}"))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take the bar away."""
        self.bar.stop()


def agreement_table(scores: Mapping[str, ExitScores], title: str) -> Table:
    """Agreement of every exit with the last layer, and the last layer's loss."""
    depth = max(len(score.agreement) for score in scores.values())
    table = Table(title=f"{title}: agreement with the last layer by exit", title_justify="left")
    table.add_column("text")
    for exit_layer in range(1, depth):
        table.add_column(f"E {exit_layer}", justify="right")
    table.add_column("loss", justify="right")
    for name, score in scores.items():
        shares = [f"{share:.2f}" for share in score.agreement[:-1]]
        table.add_row(name, *shares, f"{score.cross_entropy[-1]:.3f}")
    return table


def quality_table(quality: Quality) -> Table:
    """Last layer of base and trained model, side by side."""
    table = Table(title="last layer: before and after", title_justify="left")
    for heading in ("text", "loss before", "after", "accuracy of", "before", "after"):
        table.add_column(heading, justify="left" if heading in ("text", "accuracy of") else "right")
    for name, source in quality.sources.items():
        table.add_row(
            name,
            f"{source.base_loss:.3f}",
            f"{source.trained_loss:.3f} ({source.loss_increase:+.1%})",
            source.accuracy_of,
            f"{source.base_accuracy:.1%}",
            f"{source.trained_accuracy:.1%}",
        )
    return table
