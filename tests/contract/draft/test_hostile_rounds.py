"""Rounds that no verify worker would send: each is answered or refused, and the worker lives on."""

import asyncio
from collections import Counter
from contextlib import suppress

import grpc
import pytest

from shared.rpc import shortstack_pb2 as pb
from shortstack.bench.hostile.attacks import NEARLY_SOUND_RATE, SOUND, Attacker
from shortstack.bench.hostile.stand import BUGS
from tests.contract.draft.conftest import Pair
from tests.engine_harness import BOOT_ID

SEED = 3
NUM_MESSAGES = 400


@pytest.mark.parametrize("pair", ["unix"], indirect=True)
async def test_rounds_with_a_good_boot_id_and_bad_fields_end_no_worker(pair: Pair) -> None:
    attacker = Attacker(SEED)
    sound = SOUND["Round"]
    assert isinstance(sound, pb.RoundRequest)
    tally: Counter[str] = Counter()
    await pair.host.stub.Attach(pair.attach_request)
    for index in range(NUM_MESSAGES):
        request = pb.RoundRequest()
        request.CopyFrom(sound)
        attacker.change(request, NEARLY_SOUND_RATE)
        for task in request.tasks:
            task.kv_handle.boot_id = BOOT_ID
            task.round_index = index + 1
        call = pair.host.stub.Round(timeout=20.0)
        await call.write(request)
        await call.done_writing()
        with suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        code = await call.code()
        tally[code.name] += 1
        assert code.name not in BUGS, (SEED, index, request, await call.details())
        assert not pair.host.failures, (SEED, index, request)
    assert tally["OK"] > NUM_MESSAGES / 4 and tally["INVALID_ARGUMENT"] > 0, tally
    await asyncio.wait_for(pair.host.engine.finish_queued(), 10)
