"""One step of all decoding sessions: what was wished, and what came of it. Plain values.

step     draft phase                          verify pass
         steps 1 .. k, closing step           rows join at the layer they resume at
rows     one per session still drafting       k_s + 1 of a session that drafted, at E
                                              1 of a plain session, at layer 0
                                              prefill chunks, at layer 0
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.control.evidence.observation import Observation
from shared.speculation.vocabulary import Decision


@dataclass(frozen=True, slots=True)
class SessionLoad:
    """One decoding session of the next step: its id, and the decision it would get alone.

    wished: clamped to the session's room; the governor may shorten it or turn it off.
    is_pinned: the wish is kept whatever the load.
    arms: those that the governor may choose from, ascending; empty: the wished one alone.
    sampling_class: of the session's sampling; acceptance does not carry over between classes.
    read_exits: exits that its own policy needs read in every round.
    max_nodes: most draft tokens of a round that may branch; 0: its drafts are chains.
    """

    key: str
    wished: Decision
    is_pinned: bool = False
    arms: tuple[int, ...] = ()
    sampling_class: str = "greedy"
    read_exits: tuple[int, ...] = ()
    max_nodes: int = 0

    @property
    def is_free(self) -> bool:
        """Whether there is something to decide."""
        return not self.is_pinned and not self.wished.is_off


@dataclass(frozen=True, slots=True)
class TreeOutcome:
    """What a draft that branched did.

    depth: of its longest path.
    num_on_path: drafts on the way that the target's choices took, the one beside which they left it
        included.
    num_gained: accepted drafts beyond those of the chain of first choices alone.
    """

    depth: int
    num_on_path: int
    num_gained: int


@dataclass(frozen=True, slots=True)
class RoundOutcome:
    """What one session's round did.

    decision: as decided for this step; its max_draft_len is the cap of the draft.
    num_drafted: drafts that arrived and were verified; 0 of a plain round or a lost draft.
    num_accepted: of these; num_emitted: tokens delivered, cut at the end of the session.
    observation: what the exits showed at the positions committed; None where nobody looked.
    tree: of a draft that branched; None: of a chain.
    """

    key: str
    decision: Decision
    num_drafted: int
    num_accepted: int
    num_emitted: int
    observation: Observation | None = None
    tree: TreeOutcome | None = None

    @property
    def num_on_path(self) -> int:
        """Drafts that stood where the target's choices came by, or would have: k of a chain."""
        return self.num_drafted if self.tree is None else self.tree.num_on_path

    @property
    def depth(self) -> int:
        """Draft steps but the closing one: k of a chain."""
        return self.num_drafted if self.tree is None else self.tree.depth

    @property
    def num_on_chain(self) -> int:
        """Accepted drafts of the chain of first choices: what siblings hit is none of it."""
        return self.num_accepted - (0 if self.tree is None else self.tree.num_gained)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What a step did and took.

    rounds: one per decoding session of the step; may be empty.
    num_prefill_rows: prompt rows that the verify pass ran beside them.
    draft_ns: the draft phase, hand-over included; 0 without one.
    pass_ns: the verify pass, head and choices included.
    step_ns: all of the step, commit and emission included; 0 counts as draft_ns + pass_ns.
    read_ns: beside these, reading exits as evidence in the verify pass.
    has_draft_reads: whether drafts were longer for reading exits on the way.
    teaches: whether the step tells what steps cost; one of another kind of step tells evidence.
    num_steps: steps in a row that it stands for, all plain: rounds are theirs together, times those
        of one of them.
    """

    rounds: Sequence[RoundOutcome]
    num_prefill_rows: int
    draft_ns: int
    pass_ns: int
    step_ns: int = 0
    read_ns: int = 0
    has_draft_reads: bool = False
    teaches: bool = True
    num_steps: int = 1


def ns_of(outcome: StepOutcome) -> int:
    """Return what all of a step took."""
    return outcome.step_ns or outcome.draft_ns + outcome.pass_ns


def draft_shape(
    draft_lens: Sequence[int], depths: Sequence[int] | None = None
) -> tuple[float, int]:
    """Return the mean rows of a draft phase's steps and its number of draft steps.

    A session with k drafts has k + 1 rows, the closing one included, in as many steps, or in fewer
    if they branch; a session with none has no row. (0, 0) if nobody drafts.

    depths: the longest path of each draft; None: all are chains.
    """
    num_steps = max(draft_lens if depths is None else depths, default=0)
    if not num_steps:
        return 0.0, 0
    return sum(k + 1 for k in draft_lens if k) / (num_steps + 1), num_steps
