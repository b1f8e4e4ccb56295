"""What a conversation leaves to its next turn: how it drafted last, and what its exits showed.

Settings and counts only, never text or token ids. Knows nothing of where it is kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

# `ver` of what is written here. A reader leaves alone what a newer version wrote.
VERSION = 1
MAX_EVIDENCE_BYTES = 2048


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state at the end of a turn, or in the middle of one that has not ended.

    mk: what its evidence is about (`keys.model_key`); another `mk` does not read it.
    method, exit_layer, max_draft_len, stop_threshold: the last decision that was on, or the
        default; is_on: whether speculation was on at last.
    evidence: `hz`, as the session's evidence saves itself.
    num_positions .. num_accepted: counts over all turns.
    saved_ms: when, in ms since 1970.
    """

    mk: str
    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float
    is_on: bool
    evidence: bytes
    num_positions: int = 0
    num_rounds: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    saved_ms: int = 0

    def to_fields(self) -> dict[str, str | int | float | bytes]:
        """Return the fields of a Redis hash, the version among them."""
        return {
            "ver": VERSION,
            "mk": self.mk,
            "method": self.method,
            "E": self.exit_layer,
            "d": self.max_draft_len,
            "theta": self.stop_threshold,
            "on": int(self.is_on),
            "hz": self.evidence,
            "pos": self.num_positions,
            "rounds": self.num_rounds,
            "drafted": self.num_drafted,
            "accepted": self.num_accepted,
            "t_ms": self.saved_ms,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> "SessionState":
        """Read the fields of a Redis hash; those of later versions are left out.

        Raises:
            ValueError: a field is missing, malformed or out of range.
        """
        try:
            theta = float(fields[b"theta"])
            counts = {name: int(fields[key]) for name, key in _COUNTS.items()}
            state = cls(
                mk=fields[b"mk"].decode(),
                method=fields[b"method"].decode(),
                stop_threshold=theta,
                is_on=fields[b"on"] == b"1",
                evidence=fields[b"hz"],
                **counts,
            )
        except KeyError as error:
            raise ValueError(f"a session's state lacks {error}") from None
        if min(counts.values()) < 0 or not (math.isfinite(theta) and 0 <= theta <= 1):
            raise ValueError("a session's state has a number out of range")
        if len(state.evidence) > MAX_EVIDENCE_BYTES:
            raise ValueError(f"a session's evidence has {len(state.evidence)} bytes")
        return state


_COUNTS = {
    "exit_layer": b"E",
    "max_draft_len": b"d",
    "num_positions": b"pos",
    "num_rounds": b"rounds",
    "num_drafted": b"drafted",
    "num_accepted": b"accepted",
    "saved_ms": b"t_ms",
}
