"""What the demo shows: four answers growing side by side, then a table. Knows no network.

On a terminal the answers grow in panels; elsewhere each is printed as lines once it is whole.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shared.speculation.vocabulary import TokenSource
from shortstack.client import CompletionBuilder
from shortstack.events import Event, Tokens

ACCEPTED_STYLE = "green"
NUM_PANEL_LINES = 9
REFRESH_PER_S = 12


@dataclass(slots=True)
class Answer:
    """One answer as it grows; what the draft had guessed right is green."""

    kind: str
    prompt: str
    builder: CompletionBuilder = field(default_factory=CompletionBuilder)
    text: Text = field(default_factory=Text)

    def add(self, event: Event) -> None:
        """Take one event of the stream."""
        piece = self.builder.add(event)
        has_accepted = isinstance(event, Tokens) and TokenSource.ACCEPTED in event.sources
        self.text.append(piece, style=ACCEPTED_STYLE if has_accepted else "")

    @property
    def caption(self) -> str:
        """Say how the answer is doing."""
        num_tokens = len(self.builder.token_ids)
        num_accepted = self.builder.sources.count(TokenSource.ACCEPTED)
        share = f"{num_accepted}/{num_tokens} tokens drafted right"
        if self.builder.finished is None:
            return share
        counts = self.builder.finished.speculation
        return f"{share} · acceptance {counts.acceptance_rate:.2f}"

    def panel(self, width: int) -> Panel:
        """Draw the prompt's last line and the tail of the answer."""
        opening = self.prompt.splitlines()[-1][-width:]
        whole = Text.assemble((opening, "dim"), self.text)
        lines = whole.wrap(Console(width=width), width)[-NUM_PANEL_LINES:]
        body = Text("\n").join(lines)
        return Panel(
            body,
            title=self.kind,
            subtitle=self.caption,
            height=NUM_PANEL_LINES + 2,
            width=width + 4,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; speeds are medians in tokens per second."""

    kind: str
    plain_tokens_per_s: float
    tokens_per_s: float
    acceptance_rate: float
    mean_emitted_len: float
    is_same_text: bool

    @property
    def ratio(self) -> float:
        """How many times the speed of plain decoding."""
        return self.tokens_per_s / self.plain_tokens_per_s if self.plain_tokens_per_s else 0.0


@contextmanager
def growing(answers: Sequence[Answer], console: Console) -> Iterator[None]:
    """Show the answers while they grow."""
    if not console.is_terminal:
        yield
        for answer in answers:
            console.print(f"--- {answer.kind} · {answer.caption}", highlight=False)
            console.print(Text.assemble((answer.prompt, "dim"), answer.text), soft_wrap=True)
        return
    with Live(console=console, get_renderable=lambda: board(answers, console.width),
              refresh_per_second=REFRESH_PER_S):  # fmt: skip
        yield


def board(answers: Sequence[Answer], width: int) -> RenderableType:
    """Draw all answers, two in a row where there is room."""
    per_row = 2 if width >= 80 else 1
    panel_width = width // per_row - 5
    rows = []
    for start in range(0, len(answers), per_row):
        row = Table.grid()
        row.add_row(*(answer.panel(panel_width) for answer in answers[start : start + per_row]))
        rows.append(row)
    return Group(*rows)


def speed_table(rows: Sequence[Row]) -> Table:
    """Compare plain decoding and the pipeline."""
    table = Table(title="tokens/s of one request at a time, medians")
    table.add_column("kind")
    for header in ("plain", "shortstack", "ratio", "acceptance", "mean emitted", "same tokens"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(
            row.kind,
            f"{row.plain_tokens_per_s:.0f}",
            f"{row.tokens_per_s:.0f}",
            f"{row.ratio:.2f}x",
            f"{row.acceptance_rate:.2f}",
            f"{row.mean_emitted_len:.2f}",
            "yes" if row.is_same_text else "NO",
        )
    return table
