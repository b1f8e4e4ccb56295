"""A draft worker with moods: sound, silent, deaf to half a message, wrong; dying or lingering on.

What it has not answered it may still write to, and does when told to `scribble`. Runs on whichever
thread sends, so that a stepped cell stays deterministic.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path

import torch

from services.verify.drafter import DrafterEvent, DrafterLost, DrafterReady, DraftsArrived, Inbox
from services.verify.local_drafter import LocalDrafter
from shared.model.segment import hold_lock
from shared.speculation.vocabulary import Draft, RoundTask
from tests.engine_harness import EngineHarness


class Mood(Enum):
    """How a message of rounds is answered."""

    SOUND = auto()
    SILENT = auto()
    HALF = auto()
    MALFORMED = auto()


class MoodyDrafter:
    """Drafts soundly until its mood changes; each attachment holds a liveness lock of its own."""

    def __init__(self, cell: EngineHarness, inbox: Inbox, folder: Path) -> None:
        self._pool = cell.pool
        self._inbox = inbox
        self._sound = LocalDrafter(cell.stack, cell.pool, self._answer)
        self._folder = folder
        self._locks: list[int] = []
        self._num_attached = 0
        # Rounds that may be written to: of this attachment, and of lost ones that live on.
        self._unanswered: list[RoundTask] = []
        self._lingering: list[RoundTask] = []
        self.is_attached = False
        self.mood = Mood.SOUND

    def attach(self) -> None:
        """Attach as a new worker; a second time does nothing."""
        if self.is_attached:
            return
        self._num_attached += 1
        path = self._folder / f"{id(self)}-{self._num_attached}.lock"
        self._locks.append(hold_lock(path))
        self.is_attached = True
        self._inbox(DrafterReady(f"draft-{self._num_attached}", path))

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Answer, or not, by mood."""
        answered = {Mood.SOUND: len(tasks), Mood.HALF: len(tasks) // 2}.get(self.mood, 0)
        if answered:
            self._sound.send(tasks[:answered])
        if self.mood is Mood.MALFORMED:
            self._inbox(DraftsArrived(tuple(_malformed(task) for task in tasks)))
        else:
            self._unanswered += tasks[answered:]

    def scribble(self) -> None:
        """Write garbage wherever an unanswered round still allows it to."""
        for task in [*self._unanswered, *self._lingering]:
            table = self._pool.page_table(task.extents)
            slots = torch.tensor(table.slots(task.committed_len - 1, table.num_positions))
            for layer in self._pool.layers:
                layer.index_fill_(2, slots, torch.nan)
            self._pool.token_ids_S.index_fill_(0, slots, 1)
            self._pool.exit_states[task.exit_slot].fill_(torch.nan)

    def _answer(self, event: DrafterEvent) -> None:
        """Pass drafts on as if made in no time: their times would lengthen the rounds' timeout."""
        assert isinstance(event, DraftsArrived)
        self._inbox(DraftsArrived(tuple(replace(draft, draft_ns=0) for draft in event.drafts)))

    def answer(self) -> None:
        """Draft every unanswered round of this attachment, too late for most."""
        tasks, self._unanswered = self._unanswered, []
        if tasks:
            self._sound.send(tasks)

    def lose(self, *, lives_on: bool) -> None:
        """End the stream; the process is gone at once, or goes on writing until `bury`."""
        if not self.is_attached:
            return
        self.is_attached = False
        if lives_on:
            self._lingering += self._unanswered
        else:
            os.close(self._locks.pop())
        self._unanswered.clear()
        self._inbox(DrafterLost("lost"))

    def bury(self) -> None:
        """End every process that has lost its stream."""
        kept = self._locks[-1:] if self.is_attached else []
        for lock in self._locks[: len(self._locks) - len(kept)]:
            os.close(lock)
        self._locks, self._lingering = kept, []

    def close(self) -> None:
        """Free all locks."""
        self.is_attached = False
        self.bury()


def _malformed(task: RoundTask) -> Draft:
    return Draft(task.session_id, task.round_index, (), (), task.exit_slot, error="not today")
