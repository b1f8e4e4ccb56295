"""The cell as its verify worker holds it: model, pool, engine and whoever drafts, put together."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from services.verify.cell_store import CellStore
from services.verify.drafter import Drafter, DrafterReady, NoDrafter
from services.verify.engine import VerifyEngine
from services.verify.local_drafter import LocalDrafter
from services.verify.memory import SessionMemory
from services.verify.pass_runner import PassRunner
from services.verify.pool_setup import (
    layout_to_proto,
    make_layout,
    make_segment,
    segment_handle,
)
from services.verify.remote_drafter import ReadingMeans, RemoteDrafter
from services.verify.roster import Roster
from services.verify.round_tracer import RoundTracer
from services.verify.rounds import Rounds
from services.verify.rules_setup import make_rules
from services.verify.scheduler import SchedulerLimits
from services.verify.search_setup import make_searcher
from services.verify.session import Session, SessionEvent, SessionRequest
from services.verify.session_log import SessionLog
from services.verify.settings import VerifyServiceSettings
from services.verify.step_log import StepLog
from services.verify.waiting_room import AdmissionLimits, WaitingRoom
from shared.control.overlap import OverlapChooser
from shared.control.policies.base import PolicyContext, SessionPolicy
from shared.control.policies.registry import GOODPUT, make_policy
from shared.control.policies.static import NAME as STATIC
from shared.control.registry import CellLease
from shared.control.row_budget import RowBudget
from shared.ids import CellId, new_boot_id, new_worker_id
from shared.model.cuda_segment import CudaSegment
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.segment import ShmSegment
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import (
    acceptance_heads_to_proto,
    draft_adapters_to_proto,
    draft_vocab_to_proto,
    exit_adapters_to_proto,
    identity_to_proto,
)
from shared.telemetry import spans
from shared.telemetry.chrome_trace import ChromeTrace
from shared.telemetry.tracing import Tracing

log = logging.getLogger(__name__)


class Cell:
    """One verify worker's objects; built before any port opens."""

    def __init__(
        self,
        settings: VerifyServiceSettings,
        stack: LayerStack,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        verify = settings.verify
        self.settings = settings
        self.worker_id = new_worker_id("verify")
        self.boot_id = new_boot_id()
        self.stack = stack
        self.rules = make_rules(settings, stack)
        self.session_log = SessionLog()
        self.store = CellStore(
            settings,
            self.boot_id,
            self.rules.identity.model_fingerprint,
            self.session_log,
            self._drafts_made_with,
        )
        layout = make_layout(settings, stack)
        self._segment = make_segment(settings, layout, stack.device)
        self.pool = KVPool(self._segment, layout)
        self.pool.check_word.fill_(self.boot_id)
        self.memory = SessionMemory(self.pool, stack.config.max_context_len, verify.prefix_sharing)
        self._runner = PassRunner(stack, self.pool)
        self._loop = asyncio.get_running_loop()
        self.tracing = Tracing(spans.VERIFY, settings.telemetry, self.worker_id)
        self._tracer = self._make_tracer()
        self._trace = ChromeTrace(verify.trace_path, verify.cell_id) if verify.trace_path else None
        limits = AdmissionLimits(verify.max_sessions, verify.max_waiting, verify.queue_timeout_ms)
        self.engine = VerifyEngine(
            SchedulerLimits(
                stack.config.max_context_len,
                layout.max_rows,
                verify.prefill_chunk_len,
                verify.max_unread,
                verify.sheds,
                row_budget=RowBudget(verify.max_stretch),
                has_trees=verify.trees == "auto",
            ),
            Roster(WaitingRoom(limits, self.memory), self.memory),
            self.memory,
            self._runner,
            self._emit,
            on_failure,
            StepLog(
                stack.config.num_layers,
                self._trace,
                self.rules.exits,
                self.session_log,
                self.store.link,
                self._tracer,
            ),
            OverlapChooser(verify.overlap),
        )
        self._remote: RemoteDrafter | None = None
        if verify.cell_kind != "plain":
            self.engine.steps.search = make_searcher(
                settings.swift, stack, self.memory, self.engine.steps.governor, self.store
            )

    def _make_tracer(self) -> RoundTracer | None:
        if not self.tracing.is_on:
            return None
        return RoundTracer(self.tracing, drafts_here=self.settings.verify.cell_kind == "fused")

    def make_policy(self, request: SessionRequest) -> SessionPolicy | None:
        """Return what proposes a session's rounds; None: its wish, or the load governor."""
        if request.wished.is_off or request.policy in (GOODPUT, STATIC):
            return None
        context = PolicyContext(
            request.arms or (request.wished.exit_layer,),
            self.stack.config.num_layers,
            request.wished,
            self.settings.verify.max_draft_len,
            self.engine.steps.governor.round_ns,
        )
        return make_policy(request.policy, context)

    @property
    def transport(self) -> str:
        """How workers of this cell share memory."""
        if isinstance(self._segment, ShmSegment):
            return "shm"
        return "cuda_ipc" if isinstance(self._segment, CudaSegment) else "local"

    @property
    def draft_vocab(self) -> pb.DraftVocabInfo | None:
        """What drafts are scored by, as whoever drafts now has told; None: all ids."""
        if self._remote is not None:
            return self._remote.draft_vocab
        return draft_vocab_to_proto(self.stack.draft_vocab)

    @property
    def exit_adapters(self) -> pb.ExitAdaptersInfo | None:
        """What drafts read exits through, as whoever drafts now has told; None: the raw exits."""
        if self._remote is not None:
            return self._remote.exit_adapters
        return exit_adapters_to_proto(self.stack.exit_adapters)

    @property
    def acceptance_heads(self) -> pb.AcceptanceHeadsInfo | None:
        """What tells whoever drafts now how likely drafts are to be kept; None: gaps alone."""
        if self._remote is not None:
            return self._remote.acceptance_heads
        return acceptance_heads_to_proto(self.stack.acceptance_heads)

    def _drafts_made_with(self) -> str:
        """Name all that drafts are made with: acceptance holds for drafts made with that."""
        means = (self.draft_vocab, self.exit_adapters)
        named = [str(each).replace("\n", " ") if each is not None else "" for each in means]
        return "/".join((*named, *(each.digest for each in self.stack.adapter_weights)))

    def start(self, on_speculation: Callable[[bool], Awaitable[None]]) -> None:
        """Start the engine and whoever drafts; `on_speculation` hears of draft workers."""
        rounds = Rounds(
            self._make_drafter(on_speculation),
            self.memory,
            self.stack.config.vocab_size,
            self.settings.verify.round_timeout_ms,
        )
        self.engine.start(rounds)
        self.store.start(self.engine)
        if self._remote is not None:
            self._remote.start()
        elif self.settings.verify.cell_kind == "fused":
            self.engine.post(DrafterReady(self.worker_id))

    def _make_drafter(self, on_speculation: Callable[[bool], Awaitable[None]]) -> Drafter:
        verify = self.settings.verify
        if verify.cell_kind == "plain":
            return NoDrafter()
        if verify.cell_kind == "fused":
            return LocalDrafter(self.stack, self.pool, self.engine.post)
        self._remote = RemoteDrafter(
            verify.draft_target,
            self._attach_request(),
            self.engine.post,
            on_speculation,
            ReadingMeans(
                draft_vocab_to_proto(self.stack.draft_vocab),
                exit_adapters_to_proto(self.stack.exit_adapters),
                acceptance_heads_to_proto(self.stack.acceptance_heads),
            ),
            verify.tls_files,
        )
        return NoDrafter()

    def _attach_request(self) -> pb.AttachRequest:
        layout = self.pool.layout
        return pb.AttachRequest(
            worker_id=self.worker_id,
            boot_id=self.boot_id,
            model=identity_to_proto(self.rules.identity),
            layout=layout_to_proto(layout),
            segment=segment_handle(self._segment, layout.size_bytes),
            draft_adapters=draft_adapters_to_proto(self.stack.adapter_weights),
        )

    def _emit(self, events: list[tuple[Session, SessionEvent]]) -> None:
        """Hand a pass's events to the event loop, all at once; called by the engine's thread."""
        self._loop.call_soon_threadsafe(_deliver, events)

    def lease(self, address: str) -> CellLease:
        """Return the cell's lease as it is now."""
        verify = self.settings.verify
        return CellLease(
            cell_id=CellId(verify.cell_id),
            worker_id=self.worker_id,
            boot_id=self.boot_id,
            address=verify.advertise or address,
            model_name=self.rules.identity.model_name,
            model_fingerprint=self.rules.identity.model_fingerprint,
            num_sessions=len(self.engine.roster),
            max_sessions=verify.max_sessions,
            num_free_pages=self.memory.allocator.num_free + self.memory.num_cached,
            num_draft_workers=self.engine.rounds.num_draft_workers,
            is_draining=self.engine.roster.is_draining,
        )

    def counters(self) -> pb.WorkCounters:
        """Return the work done since the start."""
        search = self.engine.steps.search
        return pb.WorkCounters(
            num_passes=self._runner.num_passes,
            num_row_layers=self.stack.num_row_layers,
            num_head_rows=self.stack.num_head_rows,
            num_late_responses=self.engine.rounds.num_late,
            num_fenced_rounds=self.engine.rounds.num_fenced,
            num_preemptions=self.engine.roster.num_preemptions,
            num_prefix_tokens_queried=self.memory.num_prefix_tokens_queried,
            num_prefix_tokens_hit=self.memory.num_prefix_tokens_hit,
            num_shed_rounds=self.engine.steps.num_shed_rounds,
            num_set_looks=search.num_looks if search else 0,
            set_looks_ns=search.num_looked_ns if search else 0,
            searched_steps_ns=search.budget.steps_ns if search else 0,
        )

    async def close(self) -> None:
        """End drafting, end the engine, give the memory back."""
        if self._remote is not None:
            await self._remote.stop()
        await asyncio.to_thread(self.engine.stop)
        await self.store.close()
        self.pool.close()
        await asyncio.to_thread(self.close_tracing)
        if self._trace is not None:
            self._write_trace(self._trace)

    def close_tracing(self) -> None:
        """Send the spans that are left, for a bounded time; once the engine has ended."""
        if self._tracer is not None:
            self._tracer.close()
        self.tracing.close()

    def _write_trace(self, trace: ChromeTrace) -> None:
        try:
            log.info("trace written", extra={"path": str(trace.write())})
        except OSError as error:
            log.error("trace not written", extra={"error": str(error)})


def _deliver(events: list[tuple[Session, SessionEvent]]) -> None:
    for session, event in events:
        session.sink(event)
