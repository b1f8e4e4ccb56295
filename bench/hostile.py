"""Hostile messages against a running stack: what they are answered, and what they leave behind.

    python -m bench.hostile [--num 10000] [--seed 1] [--model DIR] [--log-dir DIR]

Starts a stack of one cell and sends malformed, absurd and half-finished calls to all of its ports:
random bytes, messages cut short, fields out of their range, NaN, huge counts, unknown ids, streams
that are never closed. Prints how the calls ended, by method, and what is held afterwards. Exit
status 1 if a process died, a call ended with INTERNAL or UNKNOWN, or pages, sessions or file
descriptors were lost. The same seed sends the same messages.
"""

import argparse
import asyncio
import math
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf.descriptor import FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel
from shortstack.checkpoint import require_model_dir
from shortstack.health import verify_info
from shortstack.plan import StackConfig
from shortstack.stack import Stack

SERVICES: dict[str, ServiceDescriptor] = {
    service: pb.DESCRIPTOR.services_by_name[service]
    for service in ("GatewayService", "VerifyService", "DraftService")
}
# What it would do is what it is for.
LEFT_OUT = {"Drain"}
BUGS = ("INTERNAL", "UNKNOWN")
# Our library's word, not the server's, which had ended the call before all was written.
LOST_WRITE = "Internal error from Core"
NUM_AT_A_TIME = 8
MAX_CALL_S = 0.3
# Sockets of calls that have just ended, and what a service opens when it is first asked.
MAX_MORE_FDS = 12
MAX_REPEATED = 3000
# Share of the fields of a message that are set.
USUAL_RATE = 0.6
NEARLY_SOUND_RATE = 0.1


@dataclass(frozen=True, slots=True)
class Attack:
    """One call: the bytes of its messages, and how it goes on."""

    service: str
    method: str
    payloads: tuple[bytes, ...]
    timeout_s: float
    closes: bool
    is_cancelled: bool

    @property
    def path(self) -> str:
        """Name of the method on the wire."""
        return f"/{pb.DESCRIPTOR.package}.{self.service}/{self.method}"


# What would be sound: attacks that change little of it get further than those that change all.
SOUND: dict[str, Message] = {
    "GenerateText": pb.GenerateTextRequest(
        prompt="Once", stop=pb.StopParams(max_new_tokens=4), sampling=pb.SamplingParams(seed=1)
    ),
    "Generate": pb.GenerateRequest(
        session_id="s", token_ids=[1, 2, 3], stop=pb.StopParams(max_new_tokens=4)
    ),
    "Round": pb.RoundRequest(
        batch_index=1,
        tasks=[
            pb.RoundTask(
                session_id="s",
                round_index=1,
                kv_handle=pb.KVHandle(extents=[pb.PageExtent(first_page=2, num_pages=8)]),
                exit_states_handle=pb.ExitStatesHandle(slot=1, num_rows=8),
                pending_tokens=[9],
                committed_len=1,
                prompt_len=1,
                method="layerskip",
                exit_layer=2,
                max_draft_len=4,
            )
        ],
    ),
    "Cancel": pb.CancelRequest(request_id="r"),
    "GetSessionTimeline": pb.GetSessionTimelineRequest(session_id="s"),
}


class Attacker:
    """Makes attacks; pure but for its generator."""

    def __init__(self, seed: int) -> None:
        """Begin a sequence."""
        self._random = random.Random(seed)
        self._rate = USUAL_RATE

    def make(self) -> Attack:
        """Return the next attack."""
        choose = self._random
        service = choose.choice(sorted(SERVICES))
        methods = [each for each in SERVICES[service].methods if each.name not in LEFT_OUT]
        method = choose.choice(methods)
        num = choose.choice((0, 1, 1, 2, 5)) if method.client_streaming else 1
        message_class = GetMessageClass(method.input_type)
        return Attack(
            service,
            method.name,
            tuple(self._payload(method.name, message_class) for _ in range(num)),
            timeout_s=choose.uniform(0.01, MAX_CALL_S),
            closes=choose.random() < 0.5,
            is_cancelled=choose.random() < 0.1,
        )

    def _payload(self, method_name: str, message_class: type[Message]) -> bytes:
        kind = self._random.random()
        if kind < 0.2:
            return self._random.randbytes(self._random.choice((0, 1, 7, 100, 5000)))
        message = message_class()
        sound = SOUND.get(method_name)
        is_nearly_sound = sound is not None and self._random.random() < 0.7
        if sound is not None and is_nearly_sound and isinstance(message, type(sound)):
            message.CopyFrom(sound)
        self.change(message, NEARLY_SOUND_RATE if is_nearly_sound else USUAL_RATE)
        payload = message.SerializeToString()
        if kind < 0.35:
            return payload[: self._random.randrange(len(payload) + 1)]
        if kind < 0.45 and payload:
            place = self._random.randrange(len(payload))
            return payload[:place] + self._random.randbytes(1) + payload[place + 1 :]
        return payload

    def change(self, message: Message, rate: float) -> None:
        """Change about this share of a message's fields."""
        self._rate = rate
        self._fill(message, depth=0)
        self._rate = USUAL_RATE

    def _fill(self, message: Message, depth: int) -> None:
        """Set some of the fields, most of them to what nobody would."""
        for field in message.DESCRIPTOR.fields:
            if self._random.random() >= self._rate:
                continue
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                self._fill_map(getattr(message, field.name))
            elif field.is_repeated:
                self._fill_repeated(getattr(message, field.name), field, depth)
            elif field.type == FieldDescriptor.TYPE_MESSAGE:
                child = getattr(message, field.name)
                child.SetInParent()
                self._fill(child, depth + 1)
            else:
                setattr(message, field.name, self._value(field))

    def _fill_map(self, values: Any) -> None:
        for _ in range(self._random.choice((0, 1, 20))):
            values[self._integer(32)] = self._float()

    def _fill_repeated(self, values: Any, field: FieldDescriptor, depth: int) -> None:
        num = self._random.choice((0, 1, 2, 10, MAX_REPEATED if depth < 2 else 20))
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for _ in range(min(num, 20)):
                self._fill(values.add(), depth + 1)
        else:
            values.extend(self._value(field) for _ in range(num))

    def _value(self, field: FieldDescriptor) -> Any:
        if field.enum_type is not None:
            return self._random.choice((0, 1, 2, 3, 77, 2**31 - 1))
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return self._float()
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text()
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._random.randbytes(self._random.choice((0, 8, 100)))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self._random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_INT32:
            return self._random.choice((0, 1, -1, 2**31 - 1, -(2**31)))
        return self._integer(64 if field.type == FieldDescriptor.TYPE_UINT64 else 32)

    def _integer(self, num_bits: int) -> int:
        small = self._random.randrange(300)
        edges = (0, 1, 2**31 - 1, 2**31, 2**num_bits - 1, self._random.randrange(2**num_bits))
        return self._random.choice((small, small, small, *edges))

    def _float(self) -> float:
        return self._random.choice(
            (0.0, 0.5, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-45, 3e38, -3e38, 100.5)
        )

    def _text(self) -> str:
        texts = ("", "s", "layerskip", "off", "force", "user", "\0", "a\nb", "\U0001f600" * 40)
        return self._random.choice((*texts, "x" * 65, "y" * 5000, "/dev/shm/shortstack-0-0", "../"))


async def send(channel: grpc.aio.Channel, attack: Attack, metadata: Any = ()) -> str:
    """Make a call; return the name of the status that it ended with."""
    method = SERVICES[attack.service].methods_by_name[attack.method]
    streams = (method.client_streaming, method.server_streaming)
    make = getattr(channel, "_".join("stream" if each else "unary" for each in streams))
    request = () if method.client_streaming else (attack.payloads[0],)
    call = make(attack.path)(*request, timeout=attack.timeout_s, metadata=metadata)
    if attack.is_cancelled:
        call.cancel()
    try:
        if method.client_streaming:
            await _write(call, attack)
        if method.server_streaming:
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError):
        pass  # what it ended with, the code says
    if await call.details() == LOST_WRITE:
        return "ENDED_EARLY"
    return str((await call.code()).name)


async def _write(call: Any, attack: Attack) -> None:
    for payload in attack.payloads:
        await call.write(payload)
    if attack.closes:
        await call.done_writing()


async def attack_stack(
    targets: dict[str, str], num: int, seed: int, metadata: Any = ()
) -> Counter[tuple[str, str]]:
    """Send attacks to the ports of the services; return how often each method ended how."""
    attacker = Attacker(seed)
    tally: Counter[tuple[str, str]] = Counter()
    async with AsyncExitStack() as stack:
        channels = {
            service: await stack.enter_async_context(open_channel(target))
            for service, target in targets.items()
        }
        for first in range(0, num, NUM_AT_A_TIME):
            attacks = [attacker.make() for _ in range(min(NUM_AT_A_TIME, num - first))]
            codes = await asyncio.gather(
                *(send(channels[each.service], each, metadata) for each in attacks)
            )
            for each, code in zip(attacks, codes, strict=True):
                tally[f"{each.service}.{each.method}", code] += 1
    return tally


def targets_of(stack: Stack) -> dict[str, str]:
    """Return where a stack's first cell and its gateway listen."""
    cell = stack.cells[0]
    return {
        "GatewayService": stack.target,
        "VerifyService": cell.verify_target,
        "DraftService": cell.draft_target,
    }


def num_fds(stack: Stack) -> dict[str, int]:
    """Return how many files each process of a stack has open."""
    return {name: psutil.Process(child.pid).num_fds() for name, child in stack.children.items()}


async def losses(stack: Stack, fds_before: dict[str, int]) -> list[str]:
    """Return what is still held although nobody asks for anything."""
    lost = [f"{child.describe_end()}" for child in stack.poll()]
    for cell in stack.cells:
        info = await verify_info(cell.verify_target, timeout_s=5.0)
        pool = info.pool
        if pool.num_free + pool.num_cached != pool.num_pages:
            lost.append(f"{cell.cell_id}: {pool.num_used + pool.num_quarantined} pages held")
        if info.num_sessions:
            lost.append(f"{cell.cell_id}: {info.num_sessions} sessions run")
    for name, before in fds_before.items():
        more = num_fds(stack)[name] - before
        if more > MAX_MORE_FDS:
            lost.append(f"{name}: {more} more files open")
    return lost


def bugs_in(tally: Counter[tuple[str, str]]) -> list[str]:
    """Return the calls that ended as none may."""
    return [f"{num} x {method}: {code}" for (method, code), num in tally.items() if code in BUGS]


async def run(model: Path, num: int, seed: int, log_dir: Path | None = None) -> int:
    """Attack a stack of its own; print what came of it; return the exit status."""
    config = StackConfig(model=model, num_threads=1, log_dir=log_dir)
    async with Stack(config) as stack:
        await attack_stack(targets_of(stack), 50, seed + 1)
        before = num_fds(stack)
        tally = await attack_stack(targets_of(stack), num, seed)
        faults = await settled_losses(stack, before) + bugs_in(tally)
    for (method, code), count in sorted(tally.items()):
        print(f"{method:40} {code:22} {count}")
    print(f"{sum(tally.values())} calls with seed {seed}; {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


async def settled_losses(
    stack: Stack, fds_before: dict[str, int], timeout_s: float = 20.0
) -> list[str]:
    """Return what is held for good: what calls that have just ended hold, is given time."""
    lost: list[str] = []
    for _ in range(int(timeout_s / 0.2)):
        lost = await losses(stack, fds_before)
        if not lost:
            break
        await asyncio.sleep(0.2)
    return lost


def main(arguments: Sequence[str]) -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description="Send hostile messages to a stack.")
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--log-dir", type=Path, help="keep the processes' logs here")
    options = parser.parse_args(arguments)
    model = require_model_dir(options.model)
    return asyncio.run(run(model, options.num, options.seed, options.log_dir))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
