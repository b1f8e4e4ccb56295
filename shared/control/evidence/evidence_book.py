"""The evidence of all sessions of a cell, and what they leave to those that come after. Pure.

    open       a session begins with the prior it is given, that of the store, or the cell's own
    note       its rounds; the cell learns from them every 64 positions and at the end
    forget     the session ends

A method whose drafts are no early read-outs of the target is seen only in rounds of its own: it is
counted by the same rules, under a prior of its own, and never shadowed.
"""

from collections.abc import Sequence

from shared.control.evidence.branch_counts import BranchCounts
from shared.control.evidence.local_prior import LocalPrior
from shared.control.evidence.observation import Observation
from shared.control.evidence.prior import PlaceTotals, Prior
from shared.control.evidence.sampling_class import SAMPLING_CLASSES
from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.evidence.shadow_pace import ShadowPace
from shared.control.evidence.shadow_schedule import ShadowSchedule
from shared.control.evidence.survival import NUM_PLACES, Survival
from shared.speculation.tree_costs import BranchOdds
from shared.speculation.vocabulary import LAYERSKIP

# Positions of a session between what the cell learns from it.
LEARN_POSITIONS = 64
# Rounds for which a session that is never read is not asked again.
NEVER_READ = 1 << 20
# Methods whose exits can be read wherever the target runs.
READ_OUT_METHODS = frozenset({LAYERSKIP})


class EvidenceBook:
    """Knows sessions from `open` to `forget`. Owned by one thread."""

    def __init__(self, exits: Sequence[int]) -> None:
        """Begin without sessions; `exits` are those of sessions that name none."""
        self._exits = tuple(exits)
        self._pages: dict[str, _Page] = {}
        # By method and sampling class: what the cell learned, and what a store says instead.
        self._local: dict[tuple[str, str], LocalPrior] = {}
        self._stored: dict[tuple[str, str], Prior] = {}
        # Likewise, by exit: what siblings of drafts would have brought.
        self._branches: dict[tuple[str, str], dict[int, BranchCounts]] = {}
        self._pace = ShadowPace()

    def __contains__(self, key: str) -> bool:
        """Whether a session is open."""
        return key in self._pages

    def __len__(self) -> int:
        """Open sessions."""
        return len(self._pages)

    def open(
        self,
        key: str,
        sampling_class: str,
        exits: Sequence[int] | None = None,
        prior: Prior | None = None,
        carried: bytes | None = None,
        *,
        method: str = LAYERSKIP,
    ) -> None:
        """Begin to know a session; nothing if it is known.

        Args:
            key: the session's id.
            sampling_class: greedy, cool or warm.
            exits: exit layers that may draft; the book's own if None.
            prior: of the session's task or tenant; else that of its method and class.
            carried: `save()` of an earlier turn.
            method: which makes the drafts.

        Raises:
            ValueError: no such class, or the earlier state is corrupt or foreign: open it without.
        """
        if key in self._pages:
            return
        source = _source(method, sampling_class)
        evidence = SessionEvidence(
            self._exits if exits is None else exits,
            prior or self.prior(sampling_class, method),
            carried,
        )
        self._pages[key] = _Page(source, evidence, ShadowSchedule(key, self._pace))

    def adopt(self, key: str, prior: Prior | None = None, carried: bytes | None = None) -> None:
        """Give an open session belief or an earlier turn's state that came late.

        Raises:
            ValueError: the earlier state is corrupt or foreign; nothing was taken.
        """
        self._pages[key].evidence.adopt(prior, carried)

    def forget(self, key: str) -> None:
        """Forget a session that ended, when the cell has learned from it; unknown keys are fine."""
        page = self._pages.pop(key, None)
        if page is not None:
            self._learn(page)
            page.schedule.note_end()

    def note(
        self,
        key: str,
        observation: Observation,
        exit_in_use: int | None,
        *,
        is_drafting: bool = False,
    ) -> bool:
        """Take a round of an open session; return whether its text was found to have changed.

        Args:
            key: the session's id.
            observation: what the round's exits showed.
            exit_in_use: the exit that drafts; of an off session the best candidate, or None.
            is_drafting: whether the round had a draft.

        Raises:
            ValueError: an exit's reads are not one per position.
        """
        page = self._pages[key]
        has_changed = page.evidence.note(observation, exit_in_use)
        if observation.reads or is_drafting:
            page.schedule.note_round(observation.num_positions, is_drafting=is_drafting)
            self._note_branches(page, observation)
        else:
            page.schedule.note_plain(observation.num_positions)
        if has_changed:
            page.schedule.begin_burst()
        if page.evidence.num_positions >= page.num_learned + LEARN_POSITIONS:
            self._learn(page)
        return has_changed

    def _note_branches(self, page: "_Page", observation: Observation) -> None:
        for counts in (page.branches, self._branches.setdefault(page.source, {})):
            for arm, reads in observation.reads.items():
                ranks = observation.miss_ranks.get(arm, ())
                counts.setdefault(arm, BranchCounts()).note(reads, ranks)

    def session(self, key: str) -> SessionEvidence:
        """Return an open session's evidence."""
        return self._pages[key].evidence

    def survival(self, key: str, exit_layer: int, num_places: int = NUM_PLACES) -> Survival:
        """Return the chances of an open session's drafts from an exit."""
        return self._pages[key].evidence.survival(exit_layer, num_places)

    def branch_odds(self, key: str, arm: int) -> BranchOdds | None:
        """Return what siblings of an open session's drafts would bring; None: not known yet."""
        page = self._pages[key]
        nothing = BranchCounts()
        others = self._branches.get(page.source, {}).get(arm, nothing)
        return page.branches.get(arm, nothing).odds(others)

    # --- shadow ---------------------------------------------------------------------------------

    def enter_load(self, level: int) -> None:
        """Read by what reading was found to be worth at a level of load from here on."""
        self._pace.level = level

    def wants_shadow(self, key: str, *, is_pressed: bool = False) -> bool:
        """Return whether the next round of an open session is to read all its exits.

        To be asked before each round, and may be asked again; `note` takes the last answer.

        Args:
            key: the session's id.
            is_pressed: requests queue and passes are compute-bound; nothing is read then.
        """
        page = self._pages[key]
        method, _ = page.source
        if method not in READ_OUT_METHODS:
            return False
        return page.schedule.plan_round(is_pressed=is_pressed)

    def num_unread(self, key: str) -> int:
        """Return for how many plain rounds of an open session nothing is to be read, at least."""
        page = self._pages[key]
        if page.source[0] not in READ_OUT_METHODS:
            return NEVER_READ
        return page.schedule.num_unread()

    def note_shadow_cost(self, shadow_us: float, round_us: float) -> None:
        """Take what full shadow added to one session's round, and what the round took.

        Where sessions share steps, both are one session's part of it.

        Raises:
            ValueError: the shadow's time is negative, or the round's is not positive.
        """
        self._pace.note_cost(shadow_us, round_us)

    @property
    def is_in_vain(self) -> bool:
        """Whether reading was in vain in the last sessions at this load: they hardly drafted."""
        return self._pace.num_sharing > 1

    @property
    def shadow_share(self) -> float:
        """Share of the sessions' time spent on shadow, first and alarm bursts left out."""
        return self._pace.share

    # --- priors ---------------------------------------------------------------------------------

    def prior(self, sampling_class: str, method: str = LAYERSKIP) -> Prior:
        """Return what a session is believed to be that has no task or tenant of its own.

        Raises:
            ValueError: no such class.
        """
        source = _source(method, sampling_class)
        stored = self._stored.get(source)
        if stored is not None:
            return stored
        local = self._local.get(source)
        return local.prior if local is not None else Prior.none(self._exits)

    def set_prior(self, sampling_class: str, prior: Prior, method: str = LAYERSKIP) -> None:
        """Let sessions to come begin with a prior from elsewhere instead of the cell's own.

        Raises:
            ValueError: no such class.
        """
        self._stored[_source(method, sampling_class)] = prior

    def _learn(self, page: "_Page") -> None:
        """Let the cell learn what a session showed since it learned from it last."""
        page.num_learned = page.evidence.num_positions
        totals = page.evidence.totals
        if totals.num_positions > page.learned.num_positions:
            self._local.setdefault(page.source, LocalPrior()).learn(totals.without(page.learned))
            page.learned = totals.copy()


class _Page:
    """One session, and how much of it the cell has learned."""

    __slots__ = ("branches", "evidence", "learned", "num_learned", "schedule", "source")

    def __init__(
        self, source: tuple[str, str], evidence: SessionEvidence, schedule: ShadowSchedule
    ) -> None:
        self.source = source
        self.evidence = evidence
        self.schedule = schedule
        self.learned = PlaceTotals()
        self.num_learned = 0
        self.branches: dict[int, BranchCounts] = {}


def _source(method: str, sampling_class: str) -> tuple[str, str]:
    if sampling_class not in SAMPLING_CLASSES:
        raise ValueError(f"no sampling class {sampling_class!r}; known are {SAMPLING_CLASSES}")
    return method, sampling_class
