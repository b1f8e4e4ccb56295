"""Drafters that fail: one that is late and scribbles, one that dies in the middle of a round."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from services.verify.drafter import DrafterLost, DrafterReady, DraftsArrived, Inbox
from shared.ids import TokenId
from shared.model.draft_runner import StackDraftRunner
from shared.speculation.drafting import draft_rounds
from shared.speculation.methods.base import Choice, DraftRow
from shared.speculation.vocabulary import Draft, RoundTask
from tests.engine_harness import WORKER_ID, EngineHarness


class LateDrafter:
    """Answers nothing until it is told to; then scribbles over all that its rounds gave it."""

    def __init__(self, cell: EngineHarness, inbox: Inbox) -> None:
        self._pool = cell.pool
        self._inbox = inbox
        self._lock = threading.Lock()
        self._tasks: list[RoundTask] = []
        self.num_rounds = 0

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Keep the rounds."""
        with self._lock:
            self._tasks += tasks
            self.num_rounds += len(tasks)

    def scribble(self) -> None:
        """Write garbage wherever a round still unanswered allows it to."""
        for task in self._tasks:
            table = self._pool.page_table(task.extents)
            slots = torch.tensor(table.slots(task.committed_len - 1, table.num_positions))
            for layer in self._pool.layers:
                layer.index_fill_(2, slots, torch.nan)
            self._pool.token_ids_S.index_fill_(0, slots, 1)
            self._pool.exit_states[task.exit_slot].fill_(torch.nan)

    @property
    def num_unanswered(self) -> int:
        """Rounds that wait for their answer."""
        return len(self._tasks)

    def answer(self) -> None:
        """Answer every round, with tokens that nobody asked for any more."""
        with self._lock:
            drafts = tuple(
                Draft(task.session_id, task.round_index, (TokenId(5),), (0.5,), task.exit_slot)
                for task in self._tasks
            )
            self._tasks.clear()
        self._inbox(DraftsArrived(drafts))

    def close(self) -> None:
        """Nothing runs."""


class Killed(Exception):
    """The draft worker died."""


class MortalRunner(StackDraftRunner):
    """Dies when its steps are used up, leaving behind what it has written."""

    num_steps_left = 0

    def step(self, rows: Sequence[DraftRow]) -> list[Choice]:
        """Run a step, or die."""
        if self.num_steps_left == 0:
            raise Killed
        self.num_steps_left -= 1
        return super().step(rows)


class MortalDrafter:
    """Drafts soundly, but dies at a step of its n-th round; a successor attaches at once."""

    def __init__(
        self, cell: EngineHarness, inbox: Inbox, dying_round: int, num_steps: int, lock: Path
    ) -> None:
        self._runner = MortalRunner(cell.stack, cell.pool)
        self._inbox = inbox
        self._dying_round = dying_round
        self._num_steps = num_steps
        self._lock = lock
        self.num_rounds = 0

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Draft, or die and be replaced."""
        is_dying = self.num_rounds == self._dying_round
        self._runner.num_steps_left = self._num_steps if is_dying else 1 << 30
        self.num_rounds += 1
        try:
            self._inbox(DraftsArrived(tuple(draft_rounds(tasks, self._runner))))
        except Killed:
            self._inbox(DrafterLost("killed"))
            self._inbox(DrafterReady(f"{WORKER_ID}-successor", self._lock))

    def close(self) -> None:
        """Nothing runs."""


class MeddlingDrafter:
    """Drafts soundly, but first lets the test do something while rounds are in flight."""

    def __init__(
        self, cell: EngineHarness, inbox: Inbox, meddle: Callable[[EngineHarness, int], None]
    ) -> None:
        self._cell = cell
        self._runner = StackDraftRunner(cell.stack, cell.pool)
        self._inbox = inbox
        self._meddle = meddle
        self.num_rounds = 0

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Meddle, then draft."""
        self._meddle(self._cell, self.num_rounds)
        self.num_rounds += 1
        self._inbox(DraftsArrived(tuple(draft_rounds(tasks, self._runner))))

    def close(self) -> None:
        """Nothing runs."""
