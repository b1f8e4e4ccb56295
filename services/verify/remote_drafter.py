"""Drafting in another process: the split cell. One long-lived stream carries all rounds.

Runs in the event loop beside the gRPC server; the engine's thread hands tasks over and finds
answers in its inbox. When the stream ends, for whatever reason, the engine is told, and this goes
on trying to attach: speculation returns when a draft worker does. A stream that is of no more use,
as an answer is lost or all of them are malformed, is ended from here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.verify.drafter import DrafterLost, DrafterReady, DraftsArrived, Inbox
from services.verify.round_stream import Patience, RoundStream
from shared.access.tls_files import TlsFiles
from shared.errors import ModelMismatch, ShortstackError, StaleHandle
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.channel import open_channel, translated_errors
from shared.rpc.rounds import draft_from_proto

log = logging.getLogger(__name__)

ATTACH_TIMEOUT_S = 10.0
RETRY_MIN_S = 0.1
RETRY_MAX_S = 2.0


@dataclass(frozen=True, slots=True)
class ReadingMeans:
    """What a worker reads exits with, as far as workers tell each other; the rest is the model's.

    Two of the same sizes count as the same: what is taken for evidence decides speed, never text.
    """

    draft_vocab: pb.DraftVocabInfo | None = None
    exit_adapters: pb.ExitAdaptersInfo | None = None
    acceptance_heads: pb.AcceptanceHeadsInfo | None = None


class RemoteDrafter:
    """Keeps the cell attached; each attachment brings the engine a stream to draft over.

    own_means: what the verify worker reads exits with; None: it reads none.
    """

    def __init__(
        self,
        target: str,
        attach_request: pb.AttachRequest,
        inbox: Inbox,
        on_ready: Callable[[bool], Awaitable[None]],
        own_means: ReadingMeans | None = None,
        tls: TlsFiles | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._target = target
        self._attach_request = attach_request
        self._inbox = inbox
        self._on_ready = on_ready
        self._own_means = own_means
        self._tls = tls
        self._patience = patience or Patience()
        self._task: asyncio.Task[None] | None = None
        # Of the draft worker that is attached now; None: its drafts are scored by all ids, read the
        # raw exits, and tell chances by their gaps.
        self.draft_vocab: pb.DraftVocabInfo | None = None
        self.exit_adapters: pb.ExitAdaptersInfo | None = None
        self.acceptance_heads: pb.AcceptanceHeadsInfo | None = None
        # Whether the verify worker reads exits as that draft worker does: its reads are evidence of
        # what would be drafted only then.
        self.reads_alike = False

    def start(self) -> None:
        """Attach, and attach again whenever the stream ends."""
        self._task = asyncio.create_task(self._keep_attached())

    async def stop(self) -> None:
        """Close the stream and stop trying."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_attached(self) -> None:
        delay_s = RETRY_MIN_S
        while True:
            try:
                async with open_channel(self._target, self._tls) as channel:
                    stub = pb_grpc.DraftServiceStub(channel)
                    attached = await self._attach(stub)
                    delay_s = RETRY_MIN_S
                    pause_s = await self._carry_rounds(stub, attached)
            except ShortstackError as error:
                level = logging.DEBUG if error.is_retriable else logging.WARNING
                log.log(level, "attach failed", extra={"error": error.message})
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MAX_S)
                continue
            await asyncio.sleep(pause_s)

    async def _attach(self, stub: pb_grpc.DraftServiceStub) -> pb.AttachResponse:
        with translated_errors():
            answer: pb.AttachResponse = await stub.Attach(
                self._attach_request, timeout=ATTACH_TIMEOUT_S
            )
        if answer.check_word != self._attach_request.boot_id:
            raise StaleHandle("the draft worker maps other memory than this worker's pool")
        if not answer.liveness_path:
            raise ModelMismatch("the draft worker names no liveness lock")
        return answer

    async def _carry_rounds(
        self, stub: pb_grpc.DraftServiceStub, attached: pb.AttachResponse
    ) -> float:
        """Carry rounds until the stream ends; return how long to leave the draft worker alone."""
        stream = RoundStream(self._attach_request, self._patience)
        call = stub.Round(stream.requests())
        log.info("draft worker attached", extra={"worker_id": attached.worker_id})
        self.draft_vocab = attached.draft_vocab if attached.HasField("draft_vocab") else None
        has_adapters = attached.HasField("exit_adapters")
        self.exit_adapters = attached.exit_adapters if has_adapters else None
        has_heads = attached.HasField("acceptance_heads")
        self.acceptance_heads = attached.acceptance_heads if has_heads else None
        told = ReadingMeans(self.draft_vocab, self.exit_adapters, self.acceptance_heads)
        self.reads_alike = self._own_means == told
        if self._own_means is not None and not self.reads_alike:
            log.warning("exits are not read as evidence: the draft worker reads them otherwise")
        self._inbox(
            DrafterReady(
                attached.worker_id,
                Path(attached.liveness_path),
                stream,
                self.reads_alike,
                stream.give_up,
            )
        )
        await self._on_ready(True)
        ends = [
            asyncio.create_task(self._read(call, stream)),
            asyncio.create_task(stream.until_useless()),
        ]
        reason = "the verify worker ends"
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            reason = done.pop().result()
        finally:
            for task in ends:
                task.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            call.cancel()
            stream.close()
            self.draft_vocab = self.exit_adapters = self.acceptance_heads = None
            self.reads_alike = False
            self._inbox(DrafterLost(reason))
            await self._on_ready(False)
        log.warning("draft worker lost", extra={"reason": reason})
        # Whose drafts fit nothing will hardly have been mended in a moment.
        return RETRY_MAX_S if stream.is_given_up else RETRY_MIN_S

    async def _read(self, call: Any, stream: RoundStream) -> str:
        """Hand answers over until the stream ends; return why it did."""
        try:
            with translated_errors():
                async for response in call:
                    drafts = tuple(draft_from_proto(draft) for draft in response.drafts)
                    stream.note_answers(drafts)
                    self._inbox(DraftsArrived(drafts))
        except ShortstackError as error:
            return error.message
        return "the draft worker closed the stream"
