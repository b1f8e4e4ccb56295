"""What the governor keeps of every session: its evidence, its guard, and what it began with. Pure.

open      behind its prompt, with what an earlier turn or its kind of text left
outlook   what its draft would bring from an arm; nothing while its guard holds it back
shadow    which exits are to be read of it in the next step
note      what its round showed, and took
forget    its end
"""

import logging
from collections.abc import Callable, Sequence

from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.prior import Prior
from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.evidence.survival import Survival
from shared.control.session_guard import SessionGuard
from shared.control.step_plan import Outlook
from shared.control.steps import RoundOutcome, SessionLoad
from shared.speculation.arm import arm_in_use, at_arm, is_read_out, method_of
from shared.speculation.tree_costs import BranchOdds
from shared.speculation.vocabulary import LAYERSKIP, Decision

log = logging.getLogger(__name__)

# Standard errors by which what a place brings is doubted.
NUM_DOUBTED = 0.25
NS_PER_US = 1e3


class SessionFiles:
    """Knows sessions from `open` to `forget`. Owned by one thread."""

    def __init__(self, book: EvidenceBook) -> None:
        """Take the book that holds the evidence."""
        self.book = book
        self._guards: dict[str, SessionGuard] = {}
        # Sampling class and method whose prior a session began with.
        self._kinds: dict[str, tuple[str, str]] = {}
        # Of sessions that are not open yet: what they begin with.
        self._carried: dict[str, tuple[Prior | None, bytes | None]] = {}
        # Made of what was told last of an arm.
        self._outlooks: dict[str, dict[int, Outlook]] = {}
        # Sessions all of whose exits are read in the step at hand.
        self._num_read = 0
        self.num_guard_trips = 0

    def __contains__(self, key: str) -> bool:
        """Whether anything is known of a session."""
        return key in self.book or key in self._guards or key in self._carried

    def open(self, load: SessionLoad) -> None:
        """Begin to know a session; nothing if it is known."""
        if load.key not in self._guards:
            self._guards[load.key] = SessionGuard()
            method = _source_method(load)
            self._kinds[load.key] = (load.sampling_class, method)
            self.book.open(load.key, load.sampling_class, _arms_of(load), method=method)
            self.adopt(load.key, *self._carried.pop(load.key, (None, None)))

    def adopt(self, key: str, prior: Prior | None, saved: bytes | None) -> None:
        """Let a session begin with belief and an earlier turn's evidence, early or late.

        What was saved by another format counts for nothing.
        """
        if key not in self.book:
            self._carried[key] = (prior, saved)
            return
        if prior is None and saved is None:
            return
        try:
            self.book.adopt(key, prior, saved)
        except ValueError as error:
            log.warning("evidence of an earlier turn left out", extra={"error": str(error)})
            self.book.adopt(key, prior)

    def evidence(self, key: str) -> SessionEvidence | None:
        """Return an open session's evidence."""
        return self.book.session(key) if key in self.book else None

    def blank_prior(self, key: str) -> Prior | None:
        """Return what an open session is believed to be that has shown nothing; else None."""
        evidence = self.book.session(key)
        return evidence.prior if evidence.is_blank else None

    @property
    def is_in_vain(self) -> bool:
        """Whether of late sessions in a row hardly drafted."""
        return self.book.is_in_vain

    def forget(self, key: str) -> None:
        """Forget a session that ended; unknown keys are fine."""
        self.book.forget(key)
        kind = self._kinds.pop(key, None)
        if kind is not None:
            # What it taught is made ready now: the next one's first order would wait for it.
            self.book.prior(*kind)
        self._guards.pop(key, None)
        self._outlooks.pop(key, None)
        self._carried.pop(key, None)

    # --- planning -------------------------------------------------------------------------------

    def blocked(self, loads: Sequence[SessionLoad]) -> frozenset[str]:
        """Return the keys of sessions that their guards hold back."""
        return frozenset(load.key for load in loads if self._guards[load.key].is_off)

    def outlook(
        self, load: SessionLoad, arm: int, resume_layer: Callable[[Decision], int]
    ) -> Outlook:
        """Return what a session's draft would bring and take at an arm, up to its wish.

        At its own one where it may not choose, or not that one.
        """
        wished = load.wished
        if wished.is_off or (not load.is_pinned and self._guards[load.key].is_off):
            return Outlook()
        if arm not in load.arms:
            arm = arm_in_use(wished)
        survival = self.book.survival(load.key, arm, wished.max_draft_len)
        told = self._outlooks.setdefault(load.key, {})
        outlook = told.get(arm)
        if outlook is None or outlook.kept is not survival.kept:
            layer = resume_layer(at_arm(wished, arm))
            outlook = told[arm] = _outlook(survival, arm, layer, load.is_pinned)
        return outlook

    def is_unheard(self, loads: Sequence[SessionLoad], arm: int) -> bool:
        """Say whether nothing but a guess is known of an arm that only its own rounds can show.

        Of sessions that may choose another one; else there is nothing to wait for.
        """
        if is_read_out(arm) or not any(map(is_read_out, _arms_of(loads[0]))):
            return False
        known = (self.evidence(load.key) for load in loads)
        return not any(each is not None and each.knows(arm) for each in known)

    def branch_odds(self, key: str, arm: int) -> BranchOdds | None:
        """Return what siblings of a session's drafts would bring; None: not known, or no more."""
        return self.book.branch_odds(key, arm) if key in self.book else None

    def shadow(
        self, loads: Sequence[SessionLoad], decisions: Sequence[Decision], most: int
    ) -> dict[str, tuple[int, ...]]:
        """Return by session the exits to be read in the next step as evidence.

        A session that is not in it needs nothing read. The exit that drafts is read behind all
        drafts where these may branch: its next best tell what siblings would bring. Else it is not
        among them, and read behind the last draft alone: where a threshold stops drafts, what
        follows on a kept one would be missing whenever the exit was sure.

        Args:
            loads: the sessions, all open; decisions: theirs, in the same order.
            most: sessions all of whose exits may be read at a time; those whose own policy goes by
                what is read are beside it.
        """
        found: dict[str, tuple[int, ...]] = {}
        self._num_read = 0
        for load, decision in zip(loads, decisions, strict=True):
            if not load.is_free:
                continue
            is_due = self.book.wants_shadow(load.key, is_pressed=most <= 0)
            if load.read_exits:
                # What the exit in use says comes with its drafts.
                found[load.key] = _less_own(load.read_exits, decision)
                self._num_read += 1
            elif is_due:
                exits = tuple(filter(is_read_out, _arms_of(load)))
                found[load.key] = exits if load.max_nodes else _less_own(exits, decision)
                most -= 1
                self._num_read += bool(exits)
            elif (
                not decision.is_off
                and (decision.stop_threshold > 0.0 or (len(loads) == 1 and load.arms))
                and is_read_out(arm_in_use(decision))
            ):
                found[load.key] = ()
        return found

    # --- learning -------------------------------------------------------------------------------

    def note(self, each: RoundOutcome, off_arm: int) -> bool:
        """Take what a round showed; return whether the session's text was found to have changed.

        off_arm: the arm that would draft, where none did; 0: not known.
        """
        if each.observation is None or each.key not in self.book:
            return False
        arm = arm_in_use(each.decision) if each.num_drafted else off_arm
        return self.book.note(
            each.key, each.observation, arm or None, is_drafting=each.num_drafted > 0
        )

    def note_reads(self, read_ns: int, part_ns: float) -> None:
        """Take what reading exits took in a step, and one session's part of that step."""
        if read_ns and self._num_read and part_ns > 0.0:
            shadow_us = read_ns / self._num_read / NS_PER_US
            self.book.note_shadow_cost(shadow_us, part_ns / NS_PER_US)

    def note_times(self, rounds: Sequence[RoundOutcome], ns: float, plain_ns: float) -> bool:
        """Take what a step took its sessions, and would have taken plain; 0: not known.

        What drafts took beyond a plain step took it from all sessions: each that drafted answers
        for its part of the drafts. Else a hard text among easy ones would be stopped for what
        the others' drafts take, and be no faster for it.

        Returns:
            Whether a guard holds a session back no longer.
        """
        num_drafted = sum(each.num_drafted for each in rounds)
        more_ns = len(rounds) * (ns - plain_ns)
        is_any_free = False
        for each in rounds:
            guard = self._guards.get(each.key)
            if guard is not None:
                part = each.num_drafted / num_drafted if num_drafted else 0.0
                was_off = guard.is_off
                self.num_guard_trips += guard.note_round(
                    num_drafted=each.num_drafted,
                    num_emitted=each.num_emitted,
                    round_ns=plain_ns + part * more_ns,
                    plain_ns=plain_ns,
                )
                is_any_free |= was_off and not guard.is_off
        return is_any_free


def _outlook(survival: Survival, arm: int, resume_layer: int, is_pinned: bool) -> Outlook:
    sure: list[float] = []
    for kept, error in zip(survival.kept, survival.errors, strict=True):
        worth = max(0.0, kept - NUM_DOUBTED * error)
        # What is sure must fall with the place, as what is likely does.
        sure.append(min(worth, sure[-1]) if sure else worth)
    return Outlook(survival.kept, arm, resume_layer, is_pinned, sure)


def _less_own(exits: tuple[int, ...], decision: Decision) -> tuple[int, ...]:
    """Return exits without the one that drafts."""
    if decision.is_off:
        return exits
    return tuple(each for each in exits if each != arm_in_use(decision))


def _arms_of(load: SessionLoad) -> tuple[int, ...]:
    if load.arms or load.wished.is_off:
        return load.arms
    return (arm_in_use(load.wished),)


def _source_method(load: SessionLoad) -> str:
    """Return the method whose priors a session begins with: that of all its arms, else layerskip's.

    Sessions that may choose among methods are counted together.
    """
    methods = {method_of(arm) for arm in _arms_of(load)}
    return methods.pop() if len(methods) == 1 else LAYERSKIP
