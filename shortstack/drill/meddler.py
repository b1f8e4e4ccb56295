"""Stands between the workers of a cell and changes what the draft worker answers.

The memory stays sound; what is said of it does not. Every answer is sent twice, one of a foreign
session goes before it, and the drafts of half of them fit no round. Other calls are passed on.
"""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc

from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as stubs
from shared.rpc.channel import open_channel

STOP_GRACE_S = 0.0
# Share of answers that stay as they are, so that malformed ones are not all in a row.
SOUND_RATE = 0.5
MAX_UINT32 = 2**32 - 1


def _outside_the_vocabulary(draft: pb.RoundDraft) -> None:
    draft.draft_tokens[:] = [MAX_UINT32] * len(draft.draft_tokens)


def _too_long(draft: pb.RoundDraft) -> None:
    draft.draft_tokens.extend([1] * 1000)
    draft.confidences.extend([1.0] * 1000)


def _empty(draft: pb.RoundDraft) -> None:
    del draft.draft_tokens[:]


def _without_confidences(draft: pb.RoundDraft) -> None:
    del draft.confidences[:]


def _in_another_slot(draft: pb.RoundDraft) -> None:
    draft.exit_states_handle.slot += 1


FAULTS: tuple[Callable[[pb.RoundDraft], None], ...] = (
    _outside_the_vocabulary,
    _too_long,
    _empty,
    _without_confidences,
    _in_another_slot,
)


def malformed(response: pb.RoundResponse, source: random.Random) -> pb.RoundResponse:
    """Return an answer of which no draft fits its round. Pure but for the generator's state."""
    changed = pb.RoundResponse()
    changed.CopyFrom(response)
    for draft in changed.drafts:
        source.choice(FAULTS)(draft)
    return changed


def foreign(response: pb.RoundResponse) -> pb.RoundResponse:
    """Return a sound answer to rounds of sessions that there are not. Pure."""
    changed = pb.RoundResponse()
    changed.CopyFrom(response)
    for draft in changed.drafts:
        draft.session_id = f"foreign-{draft.session_id}"
    return changed


class Meddler(stubs.DraftServiceServicer):
    """A draft worker's service that asks the real one and meddles with its answers; a context."""

    def __init__(self, listen: Path, draft_target: str, seed: int) -> None:
        self.listen = listen
        self.num_meddled = 0
        self._draft_target = draft_target
        self._random = random.Random(seed)

    async def __aenter__(self) -> "Meddler":
        self._channel = open_channel(self._draft_target)
        self._stub = stubs.DraftServiceStub(self._channel)
        self._server = grpc.aio.server()
        stubs.add_DraftServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.listen}")
        await self._server.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._server.stop(STOP_GRACE_S)
        await self._channel.close()

    async def Attach(self, request: pb.AttachRequest, context: Any) -> pb.AttachResponse:
        """Pass the call on."""
        try:
            answer: pb.AttachResponse = await self._stub.Attach(
                request, timeout=context.time_remaining()
            )
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details(), error.trailing_metadata())
        return answer

    async def Round(
        self, request_iterator: AsyncIterator[pb.RoundRequest], context: Any
    ) -> AsyncIterator[pb.RoundResponse]:
        """Pass the rounds on, and answers that are foreign, malformed, and given twice."""
        call = self._stub.Round(request_iterator)
        try:
            async for response in call:
                self.num_meddled += 1
                is_sound = self._random.random() < SOUND_RATE
                told = response if is_sound else malformed(response, self._random)
                for each in (foreign(response), told, told):
                    yield each
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        finally:
            call.cancel()
