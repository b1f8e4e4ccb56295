"""Who takes part in a replay, by name: how each controller begins a session. Pure.

off  o1                        plain; the best static setting of the workload
hf  pm1                        lengths by the last round, at the exit of o1
del  del_threshold  del_cost   tokens per layer; the same by threshold alone; by measured time
ucb  ucb_published             bandits over exits and lengths
table                          the best static setting by number of sessions
goodput                        the governor; its beliefs are told apart by `Belief`
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.observation import Observation, Read
from shared.control.load_governor import LoadGovernor
from shared.control.policies.base import PolicyContext, SessionPolicy
from shared.control.policies.registry import make_baseline
from shared.control.replay.cell import Controller, ReplayCell
from shared.control.replay.controllers import (
    GovernorController,
    PolicyController,
    StaticController,
)
from shared.control.replay.step_times import StepTimes
from shared.control.replay.swept_costs import swept_costs
from shared.control.replay.texts import RecordedText
from shared.control.step_plan import LONGEST_PLANNED
from shared.speculation.vocabulary import LAYERSKIP, Decision

OFF_NAME, O1_NAME, GOODPUT_NAME = "off", "o1", "goodput"
# Names of baselines here, and in the registry of policies.
BASELINES = {
    "hf": "hf",
    "pm1": "heuristic",
    "del": "del",
    "del_threshold": "del_threshold",
    "del_cost": "del_cost",
    "ucb": "ucb",
    "ucb_published": "ucb_published",
}
NAMES = (OFF_NAME, O1_NAME, *BASELINES, GOODPUT_NAME)
LONGEST_BASELINE_DRAFT = 18


class Belief(Enum):
    """What the governor knows of a session before it has shown anything.

    NEW: costs, no more: it has never served anybody. COLD: it has served, and so knows how far its
    own plans can be trusted, but nothing of any text. TASK: it has served the session's own kind.
    """

    NEW = "new process"
    COLD = "cold"
    TASK = "task prior"


@dataclass(frozen=True)
class Setup:
    """What all controllers of a replay share.

    exits: those that may be chosen from, all recorded and measured.
    default_exit: of static policies where plain decoding is the best static setting.
    """

    times: StepTimes
    exits: tuple[int, ...]
    sampling_class: str = "greedy"

    @property
    def default_exit(self) -> int:
        """A quarter of the layers, or the exit nearest to that."""
        quarter = self.times.num_layers / 4
        return min(self.exits, key=lambda exit_layer: abs(exit_layer - quarter))

    def wished_of(self, arm: Decision) -> Decision:
        """Return a static setting that drafts: the arm's, or a default where that is off."""
        return Decision(LAYERSKIP, self.default_exit, 4) if arm.is_off else arm

    def cell(self, controller: Controller, wished: Decision) -> ReplayCell:
        """Return a cell without sessions."""
        return ReplayCell(self.times, controller, wished, self.exits, self.sampling_class)


@dataclass(frozen=True, slots=True)
class Contender:
    """A name, and cells that it decides for, each a new one."""

    name: str
    new_cell: Callable[[], ReplayCell]


def static_contender(setup: Setup, name: str, arm: Decision) -> Contender:
    """Return one setting for all."""
    return Contender(name, lambda: setup.cell(StaticController(arm), arm))


def baseline_contender(setup: Setup, name: str, arm: Decision) -> Contender:
    """Return a policy of single sessions; `arm` is the best static setting of the workload."""
    wished = setup.wished_of(arm)
    context = PolicyContext(
        setup.exits,
        setup.times.num_layers,
        wished,
        max_draft_len=LONGEST_BASELINE_DRAFT,
        cost_ns=setup.times.round_ns,
    )

    def make(text: RecordedText) -> SessionPolicy:
        policy = make_baseline(BASELINES[name], context)
        assert policy is not None, f"{name} decides for single sessions"
        policy.note_prompt(_prompt_reads(text))
        return policy

    def new_cell() -> ReplayCell:
        # A longer wish than any policy's: the cell only clamps to it what the text leaves.
        return setup.cell(PolicyController(make, setup.exits), wished)

    return Contender(name, new_cell)


def _prompt_reads(text: RecordedText) -> Observation:
    reads = {
        exit_layer: [Read(*each) for each in zip(track.matches, track.confidences, strict=True)]
        for exit_layer, track in text.prompt.items()
    }
    return Observation(max(map(len, reads.values()), default=0), reads)


class GovernorSchool:
    """Governors whose costs are known, with what earlier sessions taught them."""

    def __init__(self, setup: Setup) -> None:
        """Sweep the costs, once."""
        self._setup = setup
        self._costs = swept_costs(setup.times)

    def taught(self, texts: Sequence[RecordedText]) -> LoadGovernor:
        """Return a governor that has served these sessions, one after the other."""
        governor = LoadGovernor(copy.deepcopy(self._costs))
        cell = self._cell(governor)
        for index, text in enumerate(texts):
            cell.admit(f"earlier-{index}", text)
            while cell.num_sessions:
                cell.step()
        return governor

    def contender(
        self, name: str, earlier: Sequence[RecordedText] = (), *, forgets_texts: bool = False
    ) -> Contender:
        """Return goodput for sessions that all begin where these earlier ones left it.

        Where it forgets texts, what they showed of their exits is gone, and only that.
        """
        governor = self.taught(earlier)
        if forgets_texts:
            governor.sessions.book = EvidenceBook(())
        return Contender(name, lambda: self._cell(copy.deepcopy(governor)))

    def _cell(self, governor: LoadGovernor) -> ReplayCell:
        wished = Decision(LAYERSKIP, self._setup.default_exit, LONGEST_PLANNED, by_chance=True)
        return self._setup.cell(GovernorController(governor), wished)
