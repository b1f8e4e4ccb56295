"""DraftService: messages -> values -> messages. Computes nothing; the engine does."""

import asyncio
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from services.draft.attachment import Attachment
from services.draft.engine import DraftEngine, DraftJob
from services.draft.settings import DraftServiceSettings
from shared.errors import StaleHandle, WorkerDraining
from shared.ids import WorkerId
from shared.model.layer_stack import LayerStack
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.convert import (
    acceptance_heads_to_proto,
    draft_adapters_to_proto,
    draft_vocab_to_proto,
    exit_adapters_to_proto,
    identity_to_proto,
)
from shared.rpc.rounds import draft_to_proto, task_from_proto
from shared.speculation.methods.registry import methods_with
from shared.speculation.vocabulary import Draft


class DraftServicer(pb_grpc.DraftServiceServicer):
    """One draft worker's service; at most one verify worker is attached."""

    def __init__(
        self,
        settings: DraftServiceSettings,
        worker_id: WorkerId,
        liveness_path: str,
        stack: LayerStack,
        engine: DraftEngine,
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._liveness_path = liveness_path
        self._stack = stack
        self._engine = engine
        self._attachment: Attachment | None = None
        self._is_draining = False
        self._streams: set[asyncio.Queue[pb.RoundResponse | Exception | None]] = set()

    async def drain(self) -> None:
        """Answer the rounds in hand and end their streams; what comes from now on is not drafted.

        The verify worker goes on without drafts as soon as its stream has ended, and sets aside
        what it had on its way to here until this process is gone.
        """
        self._is_draining = True
        await self._engine.finish_queued()
        for answers in self._streams:
            answers.put_nowait(None)

    @property
    def is_attached(self) -> bool:
        """Whether a verify worker's memory is mapped."""
        return self._attachment is not None

    async def Attach(self, request: pb.AttachRequest, context: Any) -> pb.AttachResponse:
        """Map the verify worker's memory; a former attachment is dropped."""
        if self._is_draining:
            raise WorkerDraining("this draft worker is shutting down")
        self._attachment = None
        # Rounds of a former attachment may be in hand: once this returns, they write no more.
        await self._engine.finish_queued()
        self._attachment = await asyncio.to_thread(Attachment, request, self._stack)
        return pb.AttachResponse(
            worker_id=self._worker_id,
            liveness_path=self._liveness_path,
            check_word=self._attachment.check_word,
            draft_vocab=draft_vocab_to_proto(self._stack.draft_vocab),
            exit_adapters=exit_adapters_to_proto(self._stack.exit_adapters),
            acceptance_heads=acceptance_heads_to_proto(self._stack.acceptance_heads),
        )

    async def Round(
        self, request_iterator: AsyncIterator[pb.RoundRequest], context: Any
    ) -> AsyncIterator[pb.RoundResponse]:
        """Draft every message's rounds; answers come in the order they are done."""
        attachment = self._attachment
        if attachment is None:
            raise StaleHandle("not attached: call Attach first")
        answers: asyncio.Queue[pb.RoundResponse | Exception | None] = asyncio.Queue()
        reader = asyncio.create_task(self._read(request_iterator, attachment, answers))
        self._streams.add(answers)
        try:
            while (answer := await answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            self._streams.discard(answers)
            reader.cancel()

    async def _read(
        self,
        requests: AsyncIterator[pb.RoundRequest],
        attachment: Attachment,
        answers: "asyncio.Queue[pb.RoundResponse | Exception | None]",
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            async for request in requests:
                if not self._is_draining:
                    self._submit(request, attachment, loop, answers)
        except Exception as error:
            answers.put_nowait(error)
            return
        answers.put_nowait(None)

    def _submit(
        self,
        request: pb.RoundRequest,
        attachment: Attachment,
        loop: asyncio.AbstractEventLoop,
        answers: "asyncio.Queue[pb.RoundResponse | Exception | None]",
    ) -> None:
        if attachment is not self._attachment:
            # What a lost stream still had on its way: the verify worker has its memory back.
            raise StaleHandle("this attachment was replaced by another")
        vocab_size = self._stack.config.vocab_size
        for message in request.tasks:
            if message.kv_handle.boot_id != attachment.boot_id:
                raise StaleHandle(
                    f"handle of boot {message.kv_handle.boot_id}, attached to {attachment.boot_id}"
                )
        tasks = tuple(task_from_proto(message, vocab_size) for message in request.tasks)

        def answer(drafts: list[Draft]) -> None:
            response = pb.RoundResponse(
                batch_index=request.batch_index, drafts=[draft_to_proto(draft) for draft in drafts]
            )
            loop.call_soon_threadsafe(answers.put_nowait, response)

        self._engine.submit(DraftJob(attachment, tasks, answer, time.perf_counter_ns()))

    async def GetDraftInfo(
        self, request: pb.GetDraftInfoRequest, context: Any
    ) -> pb.GetDraftInfoResponse:
        """Say what this worker is and has done."""
        return pb.GetDraftInfoResponse(
            worker_id=self._worker_id,
            model=identity_to_proto(self._stack.config.identity(self._settings.model.served_name)),
            methods=methods_with(self._stack.means),
            attached_boot_id=self._attachment.boot_id if self._attachment else 0,
            num_rounds=self._engine.num_rounds,
            num_draft_steps=self._engine.num_draft_steps,
            num_row_layers=self._stack.num_row_layers,
            num_head_rows=self._stack.num_head_rows,
            settings_json=self._settings.to_json(),
            build=version("shortstack-serve"),
            num_loaded_layers=self._stack.num_loaded,
            draft_vocab=draft_vocab_to_proto(self._stack.draft_vocab),
            exit_adapters=exit_adapters_to_proto(self._stack.exit_adapters),
            acceptance_heads=acceptance_heads_to_proto(self._stack.acceptance_heads),
            draft_adapters=draft_adapters_to_proto(self._stack.adapter_weights),
        )
