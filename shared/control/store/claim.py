"""A claim: which of several verify workers may write a session's state."""

import logging
from dataclasses import dataclass
from typing import Any

from shared.control.store.guarded_redis import Outcome
from shared.control.store.session_state import SessionState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a session's state, outranking all earlier ones.

    state: what the turn before left, if there was one of this `mk` that can be read.
    """

    epoch: int
    state: SessionState | None = None


def read_claim(answer: list[Any]) -> Claim | Outcome:
    """Read the script's answer; STALE: a newer version of this software owns the session."""
    epoch = int(answer[0])
    if not epoch:
        return Outcome.STALE
    parts = answer[1]
    fields = dict(zip(parts[::2], parts[1::2], strict=True))
    if not fields:
        return Claim(epoch)
    try:
        return Claim(epoch, SessionState.from_fields(fields))
    except ValueError as error:
        # The session is ours all the same; its next flush overwrites what was there.
        log.warning("a session's state cannot be read", extra={"error": str(error)})
        return Claim(epoch)
