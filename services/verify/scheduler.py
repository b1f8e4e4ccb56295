"""The scheduler: which sessions prefill, draft and verify in the next pass. Pure; no tensors.

All ready sessions share a pass: where passes are bound by memory, one larger batch, which reads the
weights once, beats two overlapped halves. How long each drafts beside the others, and how many
prompt rows ride along so that running sessions keep their pace, follows from measured costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.verify.session import Session, by_place
from shared.control.evidence.sampling_class import sampling_class_of
from shared.control.load_governor import LoadGovernor
from shared.control.policies.registry import GOODPUT
from shared.control.policies.static import Limits, decide
from shared.control.row_budget import RowBudget
from shared.control.steps import SessionLoad
from shared.ids import SessionId
from shared.speculation.arm import method_of
from shared.speculation.vocabulary import PLAIN_DECISION, SWIFT, Decision

# An operator's switch: nobody drafts, not even who is pinned.
KILLED = replace(PLAIN_DECISION, reason="killed")
# No skip set was found with which drafts of the session's kind of text pay.
STREAM_OFF = replace(PLAIN_DECISION, reason="stream_off")


@dataclass(frozen=True, slots=True)
class Prefill:
    """Rows [session.num_run, end) of a session's tokens."""

    session: Session
    end: int

    @property
    def num_rows(self) -> int:
        """Rows of this chunk."""
        return self.end - self.session.num_run


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass does.

    shadow: exits to be read as evidence, by session. Of a session that is not in it nothing is
        read; with no exits at all it is the exit in use alone, behind the last draft.
    """

    decoding: tuple[tuple[Session, Decision], ...] = ()
    prefills: tuple[Prefill, ...] = ()
    shadow: Mapping[SessionId, tuple[int, ...]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to run."""
        return not self.decoding and not self.prefills

    @property
    def drafting(self) -> list[tuple[Session, Decision]]:
        """Sessions whose round begins with a draft."""
        return [(session, decision) for session, decision in self.decoding if not decision.is_off]

    @property
    def plain(self) -> list[tuple[Session, Decision]]:
        """Sessions whose round has none."""
        return [(session, decision) for session, decision in self.decoding if decision.is_off]


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What bounds a pass and a round.

    sheds: whether drafts are shortened or left out where they cost more than they bring.
    row_budget: how far prompts may stretch a step.
    has_trees: whether drafts whose decisions are free may branch.
    """

    max_context_len: int
    max_rows: int
    prefill_chunk_len: int
    max_unread: int
    sheds: bool = True
    row_budget: RowBudget = field(default_factory=RowBudget)
    has_trees: bool = True


def make_plan(
    sessions: Sequence[Session],
    limits: SchedulerLimits,
    governor: LoadGovernor,
    *,
    has_draft_worker: bool,
    reads_exits: bool = False,
) -> Plan:
    """Plan a pass over the admitted sessions; prompts are taken up by age, normal ones first.

    reads_exits: whether exits that do not draft can be read too, as evidence.
    """
    prompts = sorted((each for each in sessions if not each.is_decoding), key=by_place)
    ready = [each for each in sessions if each.is_decoding and not is_paused(each, limits)]
    wishes = [_wish(session, limits, has_draft_worker) for session in ready]
    decisions = wishes
    loads = _loads(ready, wishes, limits.max_rows - 1 if limits.has_trees else 0)
    shadow: dict[str, tuple[int, ...]] = {}
    if limits.sheds:
        decisions = governor.decide(loads, num_prompts=len(prompts))
        shadow = governor.shadow(loads, decisions) if reads_exits else {}
    num_rows = 0
    if prompts:
        num_rows = limits.row_budget.num_rows(governor.costs, decisions, limits.prefill_chunk_len)
    return Plan(
        tuple(zip(ready, decisions, strict=True)),
        tuple(_chunks(prompts, num_rows)),
        {SessionId(key): exits for key, exits in shadow.items()},
    )


def is_paused(session: Session, limits: SchedulerLimits) -> bool:
    """Say whether a session waits for its client to read on."""
    return session.num_unread() >= limits.max_unread


def _wish(session: Session, limits: SchedulerLimits, has_draft_worker: bool) -> Decision:
    room = Limits(
        tokens_left=session.request.stop.max_new_tokens - session.num_emitted,
        context_left=limits.max_context_len - session.committed_len,
        max_rows=limits.max_rows,
    )
    wished = session.request.wished
    if session.is_killed() and not wished.is_off:
        return KILLED
    is_free = not session.request.is_pinned
    if is_free and _is_stream_off(session) and not _may_draft_otherwise(session):
        return STREAM_OFF
    if session.policy is not None:
        wished = session.policy.wish(wished)
    return decide(wished, room, has_draft_worker=has_draft_worker)


def _loads(
    sessions: Sequence[Session], wishes: Sequence[Decision], max_nodes: int
) -> list[SessionLoad]:
    return [
        SessionLoad(
            session.session_id,
            wish,
            session.request.is_pinned,
            _arms(session) if session.request.policy == GOODPUT else (),
            sampling_class_of(session.request.sampling),
            _read_exits(session),
            max_nodes if session.request.policy == GOODPUT else 0,
        )
        for session, wish in zip(sessions, wishes, strict=True)
    ]


def _arms(session: Session) -> tuple[int, ...]:
    """Return the arms of a session, less skipping where its stream found nothing that pays."""
    arms = session.request.arms
    if not _is_stream_off(session):
        return arms
    return tuple(arm for arm in arms if method_of(arm) != SWIFT)


def _is_stream_off(session: Session) -> bool:
    return session.stream is not None and session.stream.is_off


def _may_draft_otherwise(session: Session) -> bool:
    """Say whether a session whose stream is off may draft without skipping anything."""
    request = session.request
    if request.policy == GOODPUT and request.arms:
        return bool(_arms(session))
    return request.wished.method != SWIFT


def _read_exits(session: Session) -> tuple[int, ...]:
    """Return the exits that a session's own policy needs read in every round."""
    wants = session.policy is not None and session.policy.wants_full_shadow
    return session.request.arms if wants else ()


def _chunks(prompts: Sequence[Session], num_rows: int) -> list[Prefill]:
    chunks = []
    for session in prompts:
        if num_rows <= 0:
            break
        end = min(session.committed_len, session.num_run + num_rows)
        chunks.append(Prefill(session, end))
        num_rows -= chunks[-1].num_rows
    return chunks
