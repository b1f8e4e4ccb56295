"""Length and stop threshold of a session that drafts alone: what its own last text favours. Pure.

A plan goes by the chance that so many drafts in a row are kept, whatever the exit said of each.
How much what it says tells differs from text to text, and so does how evenly its mistakes lie. So
every TUNE_POSITIONS positions all settings of a small grid play the positions known last, and what
they brought there is added to what they brought in the sessions before:

    session 1  scores ──┐
    session 2  scores ──┼──► pool, as much as POOL_POSITIONS positions ──┐
    session 3  scores ──┘                                                ├──► best setting
    this one   scores of its last positions ─────────────────────────────┘

A session begins with what was best in the others: those that drafted from the same exit, chose
tokens in the same way, and might draft as long.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.evidence.tape_ring import MAX_REPLAYED
from shared.control.threshold_replay import Score, Setting, score_settings

TUNE_POSITIONS = 16
# What other sessions showed counts as much as so many positions of a session's own.
POOL_POSITIONS = 128.0
# Of the pool, with every session that comes to it.
POOL_MEMORY = 0.8
# Positions that settings are compared by at least.
MIN_POSITIONS = 16
# A setting in use is kept unless another one brings more by this.
MIN_GAIN = 1.01

Scores = Mapping[Setting, Score]
# Of a pool: the arm, the sampling class, and the most drafts that its sessions might make.
PoolKey = tuple[int, str, int]


@dataclass(slots=True)
class _Tuned:
    """When a session was tuned last, at which arm, and what was found.

    gain: see `Tuning.gain`.
    """

    position: int
    pool_key: PoolKey
    scores: Scores
    setting: Setting | None
    gain: float


@dataclass(frozen=True, slots=True)
class _Due:
    """A session to be tuned; see `Tuning.setting`."""

    key: str
    pool_key: PoolKey
    evidence: SessionEvidence
    round_ns: Callable[[int], float]
    in_use: Setting | None


@dataclass(slots=True)
class _Pool:
    """What settings of an arm brought in sessions that ended; `best` of a session without text."""

    scores: dict[Setting, Score] = field(default_factory=dict)
    best: Setting | None = None

    @property
    def num_positions(self) -> float:
        """Positions that a setting was tried on, as far as they still count."""
        return max((each.num_tokens for each in self.scores.values()), default=0.0)

    def add(self, scores: Scores) -> None:
        """Take what a session showed."""
        old = self.scores
        self.scores = {
            setting: _sum(old.get(setting), POOL_MEMORY, new) for setting, new in scores.items()
        }
        self.best = _best(self.scores, None)


class Tuning:
    """Keeps the settings of sessions until `forget`.

    `setting` is asked between a verify pass and the next order, where every microsecond counts;
    what it finds due is done by `tune`, while drafts are in the making.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._tuned: dict[str, _Tuned] = {}
        # Most drafts that each session ever might make: towards its end there is room for fewer,
        # of which no other session is to learn.
        self._longest: dict[str, int] = {}
        self._pools: dict[PoolKey, _Pool] = {}
        self._due: _Due | None = None

    def setting(
        self,
        key: str,
        arm: int,
        sampling_class: str,
        longest: int,
        evidence: SessionEvidence,
        round_ns: Callable[[int], float],
    ) -> Setting | None:
        """Return the setting of a session's next draft; None: as planned.

        Args:
            key: the session's id.
            arm: an exit that it drafts from by plan, and that told chances.
            sampling_class: greedy, cool or warm.
            longest: most drafts that it may make now.
            evidence: what is known of it.
            round_ns: C(E, k), asked for each k from 0 on when it is tuned.
        """
        longest = self._longest[key] = max(longest, self._longest.get(key, 0))
        pool_key = arm, sampling_class, longest
        last = self._tuned.get(key)
        changed_at = evidence.changed_at
        if last is not None and (last.pool_key[0] != arm or last.position < changed_at):
            last = None
        due_at = last.position if last is not None else changed_at
        in_use = last.setting if last is not None else self._begun(pool_key)
        if evidence.num_positions >= due_at + TUNE_POSITIONS:
            self._due = _Due(key, pool_key, evidence, round_ns, in_use)
        return in_use

    def is_tuned(self, key: str, arm: int) -> bool:
        """Whether drafts of a session from an arm are tuned, or were in sessions before it."""
        last = self._tuned.get(key)
        is_own = last is not None and last.pool_key[0] == arm
        return is_own or any(own == arm for own, _, _ in self._pools)

    def gain(self, key: str, arm: int) -> float:
        """Return how many times as much stopped drafts of a session bring as any of one length.

        What is planned of an arm knows nothing of stops. 1 of a session that was not tuned there.
        """
        last = self._tuned.get(key)
        return last.gain if last is not None and last.pool_key[0] == arm else 1.0

    def _begun(self, pool_key: PoolKey) -> Setting | None:
        pool = self._pools.get(pool_key)
        return pool.best if pool is not None else None

    def tune(self) -> None:
        """Find the setting of the session that is due, if one is."""
        due, self._due = self._due, None
        if due is None:
            return
        num_positions = due.evidence.num_positions
        # What is known since the text changed last.
        most = min(MAX_REPLAYED, num_positions - due.evidence.changed_at)
        arm, _, longest = due.pool_key
        runs = due.evidence.tape.runs(arm, max_known=most)
        scores = score_settings(runs, due.round_ns, longest)
        known = self._with_pool(due.pool_key, scores)
        setting = _best(known, due.in_use)
        self._tuned[due.key] = _Tuned(num_positions, due.pool_key, scores, setting, _gain(known))

    def _with_pool(self, pool_key: PoolKey, scores: Scores) -> Scores:
        """Return a session's scores with as much of the pool's as counts beside them."""
        pool = self._pools.get(pool_key)
        if pool is None:
            return scores
        share = min(1.0, POOL_POSITIONS / pool.num_positions)
        return {
            setting: _sum(pool.scores.get(setting), share, own) for setting, own in scores.items()
        }

    def forget(self, key: str) -> None:
        """Forget a session that ended, when others can learn of it; unknown keys are fine."""
        tuned = self._tuned.pop(key, None)
        self._longest.pop(key, None)
        if tuned is not None and any(each.num_tokens for each in tuned.scores.values()):
            self._pools.setdefault(tuned.pool_key, _Pool()).add(tuned.scores)
        if self._due is not None and self._due.key == key:
            self._due = None


def _sum(pool: Score | None, share: float, own: Score) -> Score:
    if pool is None:
        return own
    return Score(share * pool.num_tokens + own.num_tokens, share * pool.ns + own.ns)


def _best(scores: Scores, in_use: Setting | None) -> Setting | None:
    """Return the setting that brought most, or that in use where none brought clearly more."""
    rates = _rates(scores)
    if not rates:
        return in_use
    best = max(rates, key=lambda setting: rates[setting])
    held = rates.get(in_use, 0.0) if in_use is not None else 0.0
    return in_use if held * MIN_GAIN >= rates[best] else best


def _gain(scores: Scores) -> float:
    rates = _rates(scores)
    of_one_length = max((rates[each] for each in rates if not each.stop_threshold), default=0.0)
    return max(rates.values()) / of_one_length if of_one_length else 1.0


def _rates(scores: Scores) -> dict[Setting, float]:
    """Return tokens per ns of the settings that were tried on enough."""
    return {
        setting: score.num_tokens / score.ns
        for setting, score in scores.items()
        if score.num_tokens >= MIN_POSITIONS
    }
