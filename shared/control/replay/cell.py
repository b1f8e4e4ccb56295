"""Sessions that share steps under a controller, by a virtual clock. Pure.

    decide -> every session's round over its tape -> tune -> what that took -> note_step

As in the verify engine, all sessions of a step share one draft phase and one verify pass.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.control.policies.static import Limits, clamp
from shared.control.replay.rounds import limits_at, look, play_round
from shared.control.replay.step_times import DraftLoad, StepTimes
from shared.control.replay.texts import RecordedText
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome
from shared.speculation.tape import TapeRound
from shared.speculation.vocabulary import Decision


class Controller(Protocol):
    """Decides for all sessions of a step; the governor's interface, and what it wants to see."""

    def admit(self, key: str, text: RecordedText) -> None:
        """Take a new session; of its text the prompt is known, no more."""
        ...

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        """Return each session's decision for the next step, in their order."""
        ...

    def tune(self) -> None:
        """Do what decisions left to be done while drafts are in the making; it takes no time."""
        ...

    def reads(self, key: str, decision: Decision) -> Collection[int]:
        """Return exits to read at the rows of a session's next round, which takes time.

        The exit that drafts is among them if it is to be read behind its last draft too.
        """
        ...

    def note_step(self, outcome: StepOutcome, spend: "StepSpend") -> None:
        """Learn from a step, and from what its reads took."""
        ...

    def forget(self, key: str) -> None:
        """Forget a session that ended."""
        ...


@dataclass(frozen=True, slots=True)
class StepSpend:
    """What a step took, in ns.

    shadow_ns: of step_ns, reading exits that did not draft.
    num_shadowed: rounds in which such exits were read.
    """

    draft_ns: int
    pass_ns: int
    step_ns: int
    shadow_ns: int
    num_shadowed: int


@dataclass(frozen=True, slots=True)
class PlayedRound:
    """A round as it was played."""

    key: str
    decision: Decision
    round: TapeRound


@dataclass(frozen=True, slots=True)
class PlayedStep:
    """A step as it was played: a round of every session, and when it ended."""

    rounds: Sequence[PlayedRound]
    spend: StepSpend
    end_ns: int

    @property
    def num_tokens(self) -> int:
        """Tokens emitted by all sessions."""
        return sum(each.round.num_emitted for each in self.rounds)

    @property
    def is_drafting(self) -> bool:
        """Whether any session drafted."""
        return any(each.round.draft_len for each in self.rounds)


@dataclass(slots=True)
class _Session:
    key: str
    text: RecordedText
    place: int = 0

    @property
    def limits(self) -> Limits:
        return limits_at(self.text.tape, self.place)

    @property
    def is_over(self) -> bool:
        return self.place >= self.text.tape.num_tokens


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one session does in a step. reads: exits read at rows that would not show them."""

    session: _Session
    decision: Decision
    round: TapeRound
    reads: frozenset[int]

    @property
    def own(self) -> frozenset[int]:
        """The exit that drafts, if any does."""
        return frozenset({self.decision.exit_layer} if self.round.draft_len else ())

    def outcome(self) -> RoundOutcome:
        seen = look(self.session.text.tape, self.round, self.decision, self.reads)
        played = self.round
        return RoundOutcome(
            self.session.key,
            self.decision,
            played.draft_len,
            played.num_accepted,
            played.num_emitted,
            seen,
        )


@dataclass
class ReplayCell:
    """A cell.

    wished: what a session would do without a controller; its length is the longest allowed.
    exits: those that a controller may choose from.
    """

    times: StepTimes
    controller: Controller
    wished: Decision
    exits: tuple[int, ...]
    sampling_class: str = "greedy"
    now_ns: int = 0
    _sessions: list[_Session] = field(default_factory=list)

    @property
    def num_sessions(self) -> int:
        """Sessions that decode."""
        return len(self._sessions)

    def admit(self, key: str, text: RecordedText) -> None:
        """Begin a session; its prefill takes no time here."""
        self.controller.admit(key, text)
        self._sessions.append(_Session(key, text.by_chance if self.wished.by_chance else text))

    def drop(self) -> None:
        """End the newest session."""
        self.controller.forget(self._sessions.pop().key)

    def step(self) -> PlayedStep:
        """Run one step of all sessions, at least one; those whose text ends leave."""
        sessions = self._sessions
        decided = self.controller.decide([self._load(each) for each in sessions])
        turns = [
            self._turn(each, decision) for each, decision in zip(sessions, decided, strict=True)
        ]
        self.controller.tune()
        spend = self._spend(turns)
        self.now_ns += spend.step_ns
        outcomes = [turn.outcome() for turn in turns]
        for turn in turns:
            turn.session.place += turn.round.num_emitted
        self.controller.note_step(
            StepOutcome(outcomes, 0, spend.draft_ns, spend.pass_ns, spend.step_ns), spend
        )
        for each in sessions:
            if each.is_over:
                self.controller.forget(each.key)
        self._sessions = [each for each in sessions if not each.is_over]
        rounds = [PlayedRound(turn.session.key, turn.decision, turn.round) for turn in turns]
        return PlayedStep(rounds, spend, self.now_ns)

    def _load(self, session: _Session) -> SessionLoad:
        return SessionLoad(
            session.key,
            clamp(self.wished, session.limits),
            arms=self.exits,
            sampling_class=self.sampling_class,
        )

    def _turn(self, session: _Session, decided: Decision) -> _Turn:
        decision = clamp(decided, session.limits)
        played = play_round(session.text.tape, session.place, decision)
        return _Turn(
            session, decision, played, frozenset(self.controller.reads(session.key, decision))
        )

    def _spend(self, turns: Sequence[_Turn]) -> StepSpend:
        draft_ns, pass_ns = self._times(turns, [turn.reads for turn in turns])
        bare_ns = sum(self._times(turns, [turn.reads & turn.own for turn in turns]))
        return StepSpend(
            draft_ns=round(draft_ns),
            pass_ns=round(pass_ns),
            step_ns=round(draft_ns) + round(pass_ns) + round(self.times.overhead_ns),
            shadow_ns=round(draft_ns + pass_ns - bare_ns),
            num_shadowed=sum(bool(turn.reads - turn.own) for turn in turns),
        )

    def _times(
        self, turns: Sequence[_Turn], reads: Sequence[frozenset[int]]
    ) -> tuple[float, float]:
        """Return ns of draft phase and verify pass, if these exits are read beside."""
        drafts, rows, num_more_heads = [], Counter[int](), 0
        for turn, seen in zip(turns, reads, strict=True):
            draft_len = turn.round.draft_len
            if not draft_len:
                rows[0] += 1
                num_more_heads += len(seen)
                continue
            own = turn.decision.exit_layer
            num_below = sum(exit_layer < own for exit_layer in seen)
            num_above = sum(exit_layer > own for exit_layer in seen)
            drafts.append(DraftLoad(own, draft_len, num_below, turn.decision.by_chance))
            rows[own] += draft_len + 1
            num_more_heads += num_above * (draft_len + 1) + (own in seen)
        draft_ns = self.times.draft_phase_ns(drafts)
        return draft_ns, self.times.pass_ns(rows, len(turns), num_more_heads)
