"""The draft engine: one thread that drafts whatever rounds are waiting, as one batch.

Keeps nothing that outlives a round but the last answer of each session, so that a repeated request
gets the same answer without touching memory that may belong to the verify worker again.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from services.draft.attachment import Attachment
from services.draft.draft_tracer import DraftTracer
from services.draft.engine_metrics import EngineMetrics
from shared.errors import ShortstackError
from shared.ids import SessionId
from shared.model.draft_runner import StackDraftRunner
from shared.model.layer_stack import LayerStack
from shared.speculation.drafting import draft_rounds
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import Draft, RoundTask

log = logging.getLogger(__name__)

MAX_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class DraftJob:
    """The tasks of one message and where their answer goes."""

    attachment: Attachment
    tasks: tuple[RoundTask, ...]
    answer: Callable[[list[Draft]], None]
    arrived_ns: int


class DraftEngine:
    """Owns the compute thread; `submit` may be called from any thread."""

    def __init__(
        self,
        stack: LayerStack,
        on_failure: Callable[[BaseException], None],
        tracer: DraftTracer | None = None,
    ) -> None:
        self._stack = stack
        self._on_failure = on_failure
        self._tracer = tracer
        self._jobs: queue.SimpleQueue[DraftJob | Callable[[], None] | None] = queue.SimpleQueue()
        self._last: OrderedDict[SessionId, Draft] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="draft-engine", daemon=True)
        self.num_rounds = 0
        self.num_draft_steps = 0
        self.metrics = EngineMetrics()

    def start(self) -> None:
        """Start drafting."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def submit(self, job: DraftJob) -> None:
        """Queue the rounds of one message; `answer` is called from the engine's thread."""
        self._jobs.put(job)

    async def finish_queued(self) -> None:
        """Return once every round submitted before has been drafted."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self._jobs.put(lambda: loop.call_soon_threadsafe(done.set))  # type: ignore[arg-type]
        await done.wait()

    def _run(self) -> None:
        try:
            with torch.inference_mode():
                while (job := self._jobs.get()) is not None:
                    if isinstance(job, DraftJob):
                        self._serve(job)
                    else:
                        job()
        except BaseException as error:
            log.exception("draft engine failed")
            self._on_failure(error)

    def _serve(self, job: DraftJob) -> None:
        started_ns = time.perf_counter_ns()
        fresh, drafts = self._split_repeated(job.tasks)
        drafts += self._draft(fresh, job.attachment)
        self._stack.synchronize()
        draft_ns = time.perf_counter_ns() - started_ns
        queue_ns = started_ns - job.arrived_ns
        timed = [
            replace(draft, queue_ns=queue_ns, started_ns=started_ns, draft_ns=draft_ns)
            for draft in drafts
        ]
        for draft in timed:
            self._remember(draft)
        job.answer(timed)
        self.metrics.note_batch(len(job.tasks), queue_ns, draft_ns)
        self.metrics.num_refused += sum(bool(draft.error) for draft in drafts)
        if self._tracer is not None:
            self._tracer.note(fresh, timed)

    def _split_repeated(self, tasks: tuple[RoundTask, ...]) -> tuple[list[RoundTask], list[Draft]]:
        """Separate tasks to draft from those answered before or superseded."""
        fresh, known = [], []
        for task in tasks:
            last = self._last.get(task.session_id)
            if last is None or last.round_index < task.round_index:
                fresh.append(task)
            elif last.round_index == task.round_index:
                known.append(last)
                self.metrics.num_repeated += 1
            else:
                message = f"round {task.round_index} is over, round {last.round_index} was drafted"
                known.append(Draft(task.session_id, task.round_index, (), (), error=message))
        return fresh, known

    def _draft(self, tasks: list[RoundTask], attachment: Attachment) -> list[Draft]:
        runner = StackDraftRunner(self._stack, attachment.pool)
        means = self._stack.means
        sound, drafts = [], []
        for task in tasks:
            try:
                method = method_named(task.decision.method)
                method.check(task.decision, means)
                method.check_shadow(task.shadow_exits, task.decision)
                task.skip_set.check(means.num_layers)
                attachment.check_task(task, attachment.boot_id)
            except ShortstackError as error:
                drafts.append(Draft(task.session_id, task.round_index, (), (), error=error.message))
                continue
            sound.append(task)
        drafts += draft_rounds(sound, runner)
        self.num_rounds += len(tasks)
        self.num_draft_steps += runner.num_rows
        return drafts

    def _remember(self, draft: Draft) -> None:
        if draft.error:
            return
        self._last[draft.session_id] = draft
        self._last.move_to_end(draft.session_id)
        if len(self._last) > MAX_REMEMBERED:
            self._last.popitem(last=False)
