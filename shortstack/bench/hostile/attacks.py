"""Hostile calls, made from a seed: random bytes, messages cut short, fields out of range, NaN, huge
counts, unknown ids, streams that are never closed. Pure but for the generator's state.
"""

import math
import random
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shared.rpc import shortstack_pb2 as pb

SERVICES: dict[str, ServiceDescriptor] = {
    service: pb.DESCRIPTOR.services_by_name[service]
    for service in ("GatewayService", "VerifyService", "DraftService")
}
# What it would do is what it is for.
LEFT_OUT = {"Drain"}
MAX_CALL_S = 0.3
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

    def _fill_repeated(self, values: Any, field: Any, depth: int) -> None:
        num = self._random.choice((0, 1, 2, 10, MAX_REPEATED if depth < 2 else 20))
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for _ in range(min(num, 20)):
                self._fill(values.add(), depth + 1)
        else:
            values.extend(self._value(field) for _ in range(num))

    def _value(self, field: Any) -> Any:
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
