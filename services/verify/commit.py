"""Judge and commit: from the target's choices to final tokens, and what of them is emitted.

Pure but for the session's own fields: lengths change, no memory is touched. What the rows of a
round wrote beyond the new length is stale and will be overwritten; of a tree, what belongs before
it may still lie elsewhere: `Emitted.path`.
"""

from collections.abc import Iterable, Sequence
from itertools import takewhile

from services.verify.pass_items import PassResult
from services.verify.session import Emitted, Finished, Session
from shared.control.evidence.observation import Observation, observe
from shared.control.steps import TreeOutcome
from shared.ids import TokenId
from shared.speculation.acceptance import cut_at_finish, judge
from shared.speculation.arm import arm_in_use, is_read_out
from shared.speculation.tree import depths_of, is_first_child
from shared.speculation.vocabulary import (
    PLAIN_DECISION,
    Decision,
    Draft,
    FinishReason,
    ShadowRead,
    TokenSource,
    Verdict,
)


def commit_round(
    session: Session,
    decision: Decision | None,
    draft: Draft | None,
    result: PassResult,
    max_context_len: int,
) -> tuple[Emitted, FinishReason | None]:
    """Commit one round (or the end of a prefill) and return what is emitted and why it ends.

    Its observation has every position committed; where no exit was read, as behind a prefill, it
    shows nothing of them.
    """
    draft_tokens = draft.draft_tokens if draft else ()
    verdict = judge(draft_tokens, result.target_tokens, draft.parents if draft else ())
    accepted = draft_tokens[: verdict.num_accepted]
    if verdict.path:
        accepted = tuple(draft_tokens[node] for node in verdict.path)
    committed = (*accepted, verdict.next_token)
    num_kept, reason = cut_at_finish(committed, session.num_emitted, session.request.stop)
    kept = committed[:num_kept]
    sources = (TokenSource.ACCEPTED,) * verdict.num_accepted + (verdict.source,)
    session.tokens += kept
    session.num_run = len(session.tokens) - 1
    session.is_decoding = True
    if reason is None and len(session.tokens) >= max_context_len:
        reason = FinishReason.LENGTH
    round_index = session.round_index
    session.round_index += 1
    if decision is not None:
        num_accepted = min(verdict.num_accepted, num_kept)
        session.summary.count(len(draft_tokens), num_accepted, num_kept)
    used = decision if decision is not None and draft is not None else PLAIN_DECISION
    shadow = (*draft.shadow, *result.shadow) if draft else result.shadow
    emitted = Emitted(
        round_index,
        kept,
        sources[:num_kept],
        result.logprobs(kept, verdict.path),
        used,
        len(draft_tokens),
        _observed(kept, used, draft, shadow, verdict.path),
        verdict.path[:num_kept],
        _tree_outcome(verdict, draft.parents, num_kept) if draft and draft.parents else None,
    )
    return emitted, reason


def _observed(
    kept: Sequence[TokenId],
    used: Decision,
    draft: Draft | None,
    shadow: Iterable[ShadowRead],
    path: Sequence[int],
) -> Observation:
    """Return what a round showed of the arm that drafted and of exits that were read."""
    if used.is_off or draft is None:
        return observe(kept, 0, None, shadow)
    arm = arm_in_use(used)
    is_cut = not is_read_out(arm) and not draft.parents and _is_unsure_end(draft, used)
    return observe(kept, arm, draft, shadow, path, is_cut=is_cut)


def _is_unsure_end(draft: Draft, used: Decision) -> bool:
    """Say whether a chain ended because it was not sure enough."""
    if not 0 < len(draft.draft_tokens) < used.max_draft_len:
        return False
    return draft.confidences[-1] < used.stop_threshold


def _tree_outcome(verdict: Verdict, parents: Sequence[int], num_kept: int) -> TreeOutcome:
    """Return what a draft that branched did; one that led off the way is on it."""
    path = verdict.path[:num_kept]
    num_on_path = verdict.num_accepted + (verdict.source is TokenSource.RECOVERED)
    on_chain = takewhile(lambda node: is_first_child(node, parents), path)
    num_gained = len(path) - sum(1 for _ in on_chain)
    return TreeOutcome(max(depths_of(parents)), num_on_path, num_gained)


def finish(session: Session, reason: FinishReason, now_ns: int) -> Finished:
    """Return the last event of a session."""
    if session.first_token_ns:
        session.timings.decode_ns = now_ns - session.first_token_ns
    last = session.tokens[-1]
    stopped = reason is FinishReason.STOP and last in session.request.stop.stop_token_ids
    return Finished(
        reason,
        last if stopped else None,
        session.summary,
        session.timings,
        session.num_cached,
        session.num_preemptions,
    )
