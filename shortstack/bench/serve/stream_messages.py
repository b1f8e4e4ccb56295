"""Messages between the bench and a child process that serves streams: one JSON line each.

bench -> child   any number of StreamOrder, at any time
child -> bench   Ready once, then StreamTokens of all orders in any order, each one's last marked
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """One prompt to continue greedily; order_id is chosen by the bench."""

    order_id: int
    token_ids: tuple[int, ...]
    max_new_tokens: int
    eos_token_ids: tuple[int, ...]

    def numbered(self, order_id: int) -> "StreamOrder":
        """Return the order under an id."""
        return replace(self, order_id=order_id)


@dataclass(frozen=True, slots=True)
class StreamTokens:
    """Tokens that are new; an error ends the order too."""

    order_id: int
    token_ids: tuple[int, ...] = field(default=())
    is_last: bool = False
    error: str = ""


def encode_message(message: StreamOrder | StreamTokens) -> str:
    """Write a message as one line."""
    return json.dumps(asdict(message))


def decode_stream_order(line: str) -> StreamOrder:
    """Read an order."""
    fields: dict[str, Any] = json.loads(line)
    token_ids, ends = fields.pop("token_ids"), fields.pop("eos_token_ids")
    return StreamOrder(token_ids=tuple(token_ids), eos_token_ids=tuple(ends), **fields)


def decode_stream_tokens(line: str) -> StreamTokens:
    """Read tokens."""
    fields: dict[str, Any] = json.loads(line)
    return StreamTokens(token_ids=tuple(fields.pop("token_ids")), **fields)
