"""What is known of one task stream: the set in use, how it was found, and how it does.

Knows no sessions, no clock and no store; `to_json` is what a store keeps.
"""

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from shared.speculation.skip_set import SkipSet

# Observations kept, the last ones: a Gaussian process over so many takes some ms.
MAX_OBSERVATIONS = 256
MAX_LIBRARY = 16
# Windows of the set in use whose mean score counts.
NUM_SCORES = 4
# Acceptance is an average over so many rounds.
AVERAGE_ROUNDS = 64


class Phase(StrEnum):
    """Where a stream's search stands."""

    SEARCH = "search"
    # The set in use is good enough, or nothing better was found.
    LOCKED = "locked"
    # Nothing better was found, and drafts cost more than they bring.
    OFF = "off"


class Observation(NamedTuple):
    """How one set scored beside the set in use, on the same window."""

    skip_set: SkipSet
    gain: float
    window_index: int


class Kept(NamedTuple):
    """A set that a search ended with, and a word on when."""

    tag: str
    skip_set: SkipSet


@dataclass(slots=True)
class StreamRecord:
    """One stream.

    version: counts the sets that were in use; num_evaluations, num_misses: since the search opened.
    num_evaluations_ever: never reset; of two records of one stream the higher one counts.
    num_candidates: drawn so far, whatever came of them; num_windows: scored so far.
    scores: of the set in use, its last windows; acceptance: average over rounds, None before any.
    acceptance_at_lock: what it was then; num_low_rounds: rounds in a row well below that, or of a
        stream that is off.
    num_given_up: times in a row that a search ended without a set that pays.
    reply_len: average tokens of a reply; 0: not known.
    """

    skip_set: SkipSet
    version: int = 1
    phase: Phase = Phase.SEARCH
    num_evaluations: int = 0
    num_misses: int = 0
    num_evaluations_ever: int = 0
    num_candidates: int = 0
    num_windows: int = 0
    scores: list[float] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    library: list[Kept] = field(default_factory=list)
    acceptance: float | None = None
    num_rounds: int = 0
    acceptance_at_lock: float | None = None
    num_low_rounds: int = 0
    num_given_up: int = 0
    reply_len: float = 0.0

    @property
    def mean_score(self) -> float | None:
        """Mean score of the set in use over its last windows; None before it has had enough."""
        return sum(self.scores) / NUM_SCORES if len(self.scores) == NUM_SCORES else None

    def note_score(self, score: float) -> None:
        """Take the set in use on one window more."""
        self.scores = [*self.scores, score][-NUM_SCORES:]

    def note_acceptance(self, num_drafted: int, num_accepted: int) -> None:
        """Take a round with a draft by the set in use."""
        self.num_rounds += 1
        rate = max(1 / self.num_rounds, 1 / AVERAGE_ROUNDS)
        was = self.acceptance or 0.0
        self.acceptance = was + rate * (num_accepted / num_drafted - was)

    def observe(self, observation: Observation) -> None:
        """Keep an observation; the oldest goes."""
        self.observations = [*self.observations, observation][-MAX_OBSERVATIONS:]

    def keep_in_library(self) -> None:
        """Put the set in use into the library; the oldest goes."""
        others = [each for each in self.library if each.skip_set != self.skip_set]
        kept = Kept(f"window {self.num_windows}", self.skip_set)
        self.library = [*others, kept][-MAX_LIBRARY:]

    def to_json(self, num_layers: int) -> str:
        """Return the record as text, sets as hexadecimal bitmasks."""

        def bits(skip_set: SkipSet) -> str:
            return f"{skip_set.to_bits(num_layers):x}"

        values: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        values |= {
            "skip_set": bits(self.skip_set),
            "phase": self.phase.value,
            "scores": self.scores,
            "observations": [[bits(z), gain, window] for z, gain, window in self.observations],
            "library": [[tag, bits(skip_set)] for tag, skip_set in self.library],
            "acceptance": self.acceptance,
            "acceptance_at_lock": self.acceptance_at_lock,
        }
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, num_layers: int, num_skipped: int) -> "StreamRecord":
        """Read what `to_json` wrote, of a model of so many layers.

        num_skipped: K; a record of another ratio is none of ours.

        Raises:
            ValueError: it is something else; says what is wrong.
        """

        def skip_set(bits: str) -> SkipSet:
            found = SkipSet.from_bits(int(bits, 16), num_layers)
            if len(found) != num_skipped:
                raise ValueError(f"a set skips {len(found)} sub-layers, not {num_skipped}")
            return found

        try:
            values = json.loads(text)
            record = cls(
                skip_set(values["skip_set"]),
                phase=Phase(values["phase"]),
                scores=[_share(each) for each in values["scores"]][-NUM_SCORES:],
                observations=[
                    Observation(skip_set(bits), float(gain), int(window))
                    for bits, gain, window in values["observations"][-MAX_OBSERVATIONS:]
                ],
                library=[
                    Kept(str(tag), skip_set(bits)) for tag, bits in values["library"][-MAX_LIBRARY:]
                ],
                acceptance=_share_or_none(values["acceptance"]),
                acceptance_at_lock=_share_or_none(values["acceptance_at_lock"]),
            )
            # What records of earlier versions lack.
            values.setdefault("num_given_up", 0)
            for name, kind in _NUMBERS.items():
                setattr(record, name, _number(name, kind(values[name])))
        except (KeyError, TypeError) as error:
            raise ValueError(f"a stream's record lacks or garbles {error}") from None
        return record


_NUMBERS: dict[str, type[int] | type[float]] = {
    "version": int,
    "num_evaluations": int,
    "num_misses": int,
    "num_evaluations_ever": int,
    "num_candidates": int,
    "num_windows": int,
    "num_rounds": int,
    "num_low_rounds": int,
    "num_given_up": int,
    "reply_len": float,
}


def _number(name: str, value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} {value} is out of range")
    return value


def _share(value: Any) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(f"{share} is no share")
    return share


def _share_or_none(value: Any) -> float | None:
    return None if value is None else _share(value)
