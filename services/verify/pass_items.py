"""What a verify pass is made of: the rows of each session, and what choosing behind them needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.verify.scheduler import Plan
from services.verify.session import Logprobs, Session
from services.verify.shadow import ExitWish, shadow_plan
from shared.ids import TokenId
from shared.model.sampling import RowChoice, logprobs_of
from shared.speculation.methods.registry import method_named
from shared.speculation.tree import RowPath, row_paths, rows_of
from shared.speculation.vocabulary import PLAIN_DECISION, Draft, ShadowRead


@dataclass(frozen=True, slots=True)
class PassItem:
    """Rows of one session: tokens at positions from `start`, joining at `resume_layer`.

    The last `num_heads` rows get a choice: none of an unfinished prefill, the last of a finished
    one, all of a round. `reads` are wishes for evidence behind these, of exits in [1, L) that the
    rows pass or join at. `paths` are those of the rows of a tree, all of which have heads.
    """

    session: Session
    token_ids: tuple[TokenId, ...]
    start: int
    resume_layer: int
    num_heads: int
    reads: tuple[ExitWish, ...] = ()
    paths: Sequence[RowPath] | None = None


@dataclass(frozen=True, slots=True)
class PassResult:
    """The target's choices behind an item's head rows, and their logits if they are wanted.

    shadow: what exits chose there, as the item's `reads` wished.
    """

    item: PassItem
    target_tokens: list[TokenId]
    logits_RV: torch.Tensor | None
    shadow: tuple[ShadowRead, ...] = ()

    def logprobs(self, tokens: Sequence[TokenId], path: Sequence[int] = ()) -> tuple[Logprobs, ...]:
        """Return the raw log probabilities of committed tokens, if the session wants them.

        path: the nodes among them, if they are those of a tree.
        """
        num_top = self.item.session.request.num_logprobs
        if num_top is None or self.logits_RV is None:
            return ()
        rows = rows_of(path, len(tokens))
        return tuple(logprobs_of(self.logits_RV[rows], tokens, num_top))


def make_items(plan: Plan, drafts: dict[str, Draft]) -> list[PassItem]:
    """Return the rows of a plan, with the drafts that are in; the pass is made of them."""
    items = []
    for prefill in plan.prefills:
        session = prefill.session
        chunk = tuple(session.tokens[session.num_run : prefill.end])
        is_last = prefill.end == session.committed_len
        items.append(PassItem(session, chunk, session.num_run, 0, int(is_last)))
    for session, decision in plan.decoding:
        if session.table is None:
            continue
        draft = drafts.get(session.session_id)
        tokens = (session.tokens[-1], *(draft.draft_tokens if draft else ()))
        resume = method_named(decision.method).resume_layer(decision) if draft else 0
        exits = plan.shadow.get(session.session_id)
        reads: tuple[ExitWish, ...] = ()
        if exits is not None:
            reads = shadow_plan(decision if draft else PLAIN_DECISION, exits).verify_wishes
        paths = row_paths(draft.parents) if draft and draft.parents else None
        items.append(PassItem(session, tokens, session.num_run, resume, len(tokens), reads, paths))
    return items


def choices_wanted(item: PassItem) -> list[RowChoice]:
    """Return what choosing behind each head row needs; histories hold the drafts before the row."""
    request, session = item.session.request, item.session
    if item.paths is not None:
        return [_tree_wish(item, path) for path in item.paths]
    end = item.start + len(item.token_ids)
    positions = range(end - item.num_heads + 1, end + 1)
    if not request.sampling.needs_history:
        return [RowChoice(request.sampling, position, session.prompt_len) for position in positions]
    history = [*session.tokens[: item.start], *item.token_ids]
    return [
        RowChoice(request.sampling, position, session.prompt_len, history[:position])
        for position in positions
    ]


def _tree_wish(item: PassItem, path: RowPath) -> RowChoice:
    """Return what choosing behind one row of a tree needs; the history is that of its path."""
    request, session = item.session.request, item.session
    history: list[TokenId] = []
    if request.sampling.needs_history:
        history = [*session.tokens[: item.start], *(item.token_ids[row] for row in path)]
    return RowChoice(request.sampling, item.start + len(path), session.prompt_len, history)
