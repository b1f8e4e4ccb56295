"""VerifyService: messages -> values -> messages. Computes nothing; the engine does."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from services.verify.cell import Cell
from services.verify.events import Cancel, Submit, Wake
from services.verify.generate_span import generate_span
from services.verify.pages import pool_state
from services.verify.requests import read_request
from services.verify.session_messages import rounds_to_proto, state_to_proto
from services.verify.streams import SessionStream
from shared.errors import InvalidRequest, ShortstackError, WorkerDraining
from shared.ids import SessionId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.convert import draft_adapters_to_proto, identity_to_proto, summary_to_proto
from shared.speculation.methods.registry import methods_with


class VerifyServicer(pb_grpc.VerifyServiceServicer):
    """One cell's service."""

    def __init__(self, cell: Cell, on_drain: Callable[[float], Awaitable[None]]) -> None:
        self._cell = cell
        self._on_drain = on_drain
        # Sessions that an error ended before they had begun, by its class.
        self.refused: Counter[str] = Counter()

    async def Generate(
        self, request: pb.GenerateRequest, context: Any
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Run one session; its memory goes when this stream ends, whatever ended it."""
        engine, verify = self._cell.engine, self._cell.settings.verify
        metadata = context.invocation_metadata()
        with (
            self._refusals_counted(),
            generate_span(self._cell.tracing, verify.cell_id, request, metadata) as span,
        ):
            if engine.roster.is_draining:
                raise WorkerDraining("this worker is draining")
            checked = read_request(request, self._cell.rules)
            stream = SessionStream(
                checked, time.perf_counter_ns(), verify.max_unread, lambda: engine.post(Wake())
            )
            span.begin(stream.session)
            stream.session.policy = self._cell.make_policy(checked)
            self._cell.store.open(stream.session)
            engine.post(Submit(stream.session))
            try:
                async for message in stream.messages(verify.cell_id):
                    yield message
            finally:
                engine.post(Cancel(stream.session))

    @contextmanager
    def _refusals_counted(self) -> Iterator[None]:
        """Count what ends a session before it has begun; afterwards no error of ours does."""
        try:
            yield
        except ShortstackError as error:
            self.refused[type(error).__name__] += 1
            raise

    async def GetVerifyInfo(
        self, request: pb.GetVerifyInfoRequest, context: Any
    ) -> pb.GetVerifyInfoResponse:
        """Say what this worker is and how it is doing."""
        cell = self._cell
        verify = cell.settings.verify
        defaults = cell.rules.defaults
        return pb.GetVerifyInfoResponse(
            cell_id=verify.cell_id,
            worker_id=cell.worker_id,
            boot_id=cell.boot_id,
            model=identity_to_proto(cell.rules.identity),
            page_size=cell.pool.layout.page_size,
            pool=pb.PoolState(**pool_state(cell.memory)),
            methods=[*methods_with(cell.stack.means), "off"],
            default_speculation=pb.SpeculationParams(
                method=defaults.method,
                exit_layer=defaults.exit_layer,
                max_draft_len=defaults.max_draft_len,
                stop_threshold=defaults.stop_threshold,
                policy=cell.rules.policy,
            ),
            cell_kind=verify.cell_kind,
            transport=cell.transport,
            num_draft_workers=cell.engine.rounds.num_draft_workers,
            num_sessions=len(cell.engine.roster),
            max_sessions=verify.max_sessions,
            settings_json=cell.settings.to_json(),
            build=version("shortstack-serve"),
            is_draining=cell.engine.roster.is_draining,
            speculation=summary_to_proto(cell.engine.roster.summary),
            counters=cell.counters(),
            draft_vocab=cell.draft_vocab,
            exit_adapters=cell.exit_adapters,
            acceptance_heads=cell.acceptance_heads,
            draft_adapters=draft_adapters_to_proto(cell.stack.adapter_weights),
        )

    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainResponse:
        """Refuse new sessions from now on; the process ends when the running ones have."""
        timeout_ms = request.timeout_ms or self._cell.settings.verify.drain_timeout_ms
        await self._on_drain(timeout_ms / 1000)
        return pb.DrainResponse(num_sessions=len(self._cell.engine.roster))

    async def ListSessions(
        self, request: pb.VerifyServiceListSessionsRequest, context: Any
    ) -> pb.VerifyServiceListSessionsResponse:
        """Say what the controller decides for each session."""
        cell_id, now_ns = self._cell.settings.verify.cell_id, time.perf_counter_ns()
        now_unix_ns = time.time_ns()
        states = self._cell.session_log.states(with_ended=request.with_ended)
        return pb.VerifyServiceListSessionsResponse(
            sessions=[state_to_proto(state, cell_id, now_ns, now_unix_ns) for state in states]
        )

    async def GetSessionTimeline(
        self, request: pb.VerifyServiceGetSessionTimelineRequest, context: Any
    ) -> pb.VerifyServiceGetSessionTimelineResponse:
        """Say what one session's last rounds were."""
        if not request.session_id:
            raise InvalidRequest("session_id must not be empty", field="session_id")
        cell_id, now_ns = self._cell.settings.verify.cell_id, time.perf_counter_ns()
        state, rounds = self._cell.session_log.timeline(SessionId(request.session_id))
        return pb.VerifyServiceGetSessionTimelineResponse(
            session=state_to_proto(state, cell_id, now_ns, time.time_ns()),
            rounds=rounds_to_proto(rounds),
        )
