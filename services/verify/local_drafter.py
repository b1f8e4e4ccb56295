"""Drafting in the verify worker's own process: the fused cell. The same code, no message."""

import time
from collections.abc import Sequence
from dataclasses import replace

from services.verify.drafter import DraftsArrived, Inbox
from shared.model.draft_runner import StackDraftRunner
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.speculation.drafting import draft_rounds
from shared.speculation.vocabulary import RoundTask


class LocalDrafter:
    """Drafts at once, on the engine's thread."""

    def __init__(self, stack: LayerStack, pool: KVPool, inbox: Inbox) -> None:
        self._runner = StackDraftRunner(stack, pool)
        self._inbox = inbox

    def send(self, tasks: Sequence[RoundTask]) -> None:
        """Draft all rounds; the answers are in the inbox when this returns."""
        started_ns = time.perf_counter_ns()
        drafts = draft_rounds(tasks, self._runner)
        draft_ns = time.perf_counter_ns() - started_ns
        timed = [replace(draft, started_ns=started_ns, draft_ns=draft_ns) for draft in drafts]
        self._inbox(DraftsArrived(tuple(timed)))
