"""Length and stop threshold of a session that drafts alone: what its own last text favours. Pure.

A plan goes by the chance that so many drafts in a row are kept, whatever the exit said of each.
How much an exit's confidence tells differs from text to text, and so does how evenly its mistakes
lie. So every TUNE_POSITIONS positions all settings of a small grid play the positions known last,
and the best one is used until the next time, if it beats the plan's own length by enough.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.evidence.tape_ring import MAX_REPLAYED
from shared.control.threshold_replay import best_threshold

TUNE_POSITIONS = 16


@dataclass(frozen=True, slots=True)
class DraftSetting:
    """What a session drafts with at an arm: most drafts, and the threshold; 0 never stops."""

    arm: int
    draft_len: int
    stop_threshold: float


@dataclass(slots=True)
class _Tuned:
    """When a session was tuned last, at which arm, and the setting found; None: the plan's own."""

    position: int
    arm: int
    setting: DraftSetting | None


@dataclass(frozen=True, slots=True)
class _Due:
    """A session to be tuned; see `Tuning.setting`."""

    key: str
    arm: int
    draft_len: int
    longest: int
    evidence: SessionEvidence
    round_ns: Callable[[int], float]


class Tuning:
    """Keeps the settings of sessions until `forget`.

    `setting` is asked between a verify pass and the next order, where every microsecond counts;
    what it finds due is done by `tune`, while drafts are in the making.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._tuned: dict[str, _Tuned] = {}
        self._due: _Due | None = None

    def setting(
        self,
        key: str,
        arm: int,
        draft_len: int,
        longest: int,
        evidence: SessionEvidence,
        round_ns: Callable[[int], float],
    ) -> DraftSetting | None:
        """Return the setting of a session's next draft; None: as planned.

        Args:
            key: the session's id.
            arm: an exit that it drafts from by plan.
            draft_len: by plan, at least 1; longest: that may be tried.
            evidence: what is known of it.
            round_ns: C(E, k), asked for each k from 0 on when it is tuned.
        """
        last = self._tuned.get(key)
        changed_at = evidence.changed_at
        if last is not None and (last.arm != arm or last.position < changed_at):
            last = None
        due_at = last.position if last is not None else changed_at
        if evidence.num_positions >= due_at + TUNE_POSITIONS:
            self._due = _Due(key, arm, draft_len, longest, evidence, round_ns)
        return last.setting if last is not None else None

    def tune(self) -> None:
        """Find the setting of the session that is due, if one is."""
        due, self._due = self._due, None
        if due is not None:
            self._tuned[due.key] = _Tuned(due.evidence.num_positions, due.arm, _best(due))

    def forget(self, key: str) -> None:
        """Forget a session that ended; unknown keys are fine."""
        self._tuned.pop(key, None)
        if self._due is not None and self._due.key == key:
            self._due = None


def _best(due: _Due) -> DraftSetting | None:
    """Replay what is known since the text changed last."""
    num_positions = due.evidence.num_positions - due.evidence.changed_at
    runs = due.evidence.tape.runs(due.arm, max_known=min(MAX_REPLAYED, num_positions))
    found = best_threshold(runs, due.round_ns, due.draft_len, due.longest)
    if found is None or found.gain == 1.0:
        return None
    return DraftSetting(due.arm, found.draft_len, found.stop_threshold)
