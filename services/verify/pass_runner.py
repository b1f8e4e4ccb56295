"""The verify pass: one ragged run of the full stack over the rows of many sessions.

Rows join at the layer where their session's verification resumes:

    layers   0 ......... E_1 ......... E_2 ......... L
    plain    |=======================================|   prefill chunks and plain rows
    session 1            |===========================|   k+1 rows from their exit states
    session 2                          |=============|

Where evidence is wanted, rows leave their states at exits that they pass or join at; these are read
behind the pass, with the means of whoever drafts and the choice's own position and history.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from services.verify.scheduler import Plan
from services.verify.session import Logprobs, Session
from services.verify.shadow import CLOSING_ROW, ExitWish, shadow_plan
from shared.control.evidence.observation import NUM_RANKS
from shared.ids import SessionId, TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import Choices, RowChoice, choose, logprobs_of
from shared.model.shadow_reads import KeptRows, read_kept
from shared.speculation.acceptance import judge
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


@dataclass(frozen=True, slots=True)
class _Kept:
    """States that an item's rows left at an exit, from one of its head rows on.

    is_closing: what follows the last draft that is kept is wanted of them, and no more.
    """

    item: PassItem
    exit_layer: int
    first_row: int
    x_RD: torch.Tensor
    is_closing: bool = False


class PassRunner:
    """Runs passes on a layer stack in a pool.

    read_ns: time that the last pass spent on reading exits as evidence.
    """

    def __init__(self, stack: LayerStack, pool: KVPool) -> None:
        self._stack = stack
        self._pool = pool
        self.num_passes = 0
        self.read_ns = 0

    def hand_over(self) -> None:
        """Make all writes visible before a message hands the right to write over."""
        self._stack.synchronize()

    def run(self, items: Sequence[PassItem]) -> list[PassResult]:
        """Run all items' rows to the end and choose where heads are wanted."""
        self.read_ns = 0
        if not items:
            return []
        items = sorted(items, key=lambda item: item.resume_layer)
        self.num_passes += 1
        batch = pack_rows(
            [
                SessionRows(_table(item), list(item.token_ids), item.start, item.paths)
                for item in items
            ],
            self._stack.rope_table_P1C,
        )
        x_RD, kept = self._run_layers(items, batch)
        head_rows = _head_rows(items)
        if not head_rows:
            return [PassResult(item, [], None) for item in items]
        if len(head_rows) < batch.num_rows:
            x_RD = x_RD.index_select(0, torch.tensor(head_rows, device=x_RD.device))
        logits_RV = self._stack.head(x_RD)
        wishes = {item.session.session_id: _wishes(item) for item in items}
        choices = choose(logits_RV, [wish for each in wishes.values() for wish in each])
        results = _split(items, logits_RV, choices)
        shadow = self._read(list(_on_path(kept, results)), wishes)
        return [
            replace(each, shadow=shadow.get(each.item.session.session_id, ())) for each in results
        ]

    def _run_layers(
        self, items: Sequence[PassItem], batch: RowBatch
    ) -> tuple[torch.Tensor, list[_Kept]]:
        """Run every item from its resume layer on, from one join or wished exit to the next."""
        joins = {item.resume_layer for item in items}
        stops = joins.union(wish.exit_layer for item in items for wish in item.reads)
        x_RD = torch.empty(0, device=self._stack.device)
        kept: list[_Kept] = []
        num_active = 0
        for layer, next_layer in pairwise([*sorted(stops), self._stack.config.num_layers]):
            if layer in joins:
                joining = [item for item in items if item.resume_layer == layer]
                joined = self._joining_rows(joining, batch, num_active, layer)
                x_RD = joined if num_active == 0 else torch.cat((x_RD, joined))
                num_active += len(joining)
            active = batch.prefix(num_active)
            kept += _keep(items[:num_active], active, x_RD, layer)
            x_RD = self._stack.run(x_RD, layer, next_layer, active, self._pool.layers)
        return x_RD, kept

    def _read(
        self, kept: Sequence[_Kept], wishes: Mapping[SessionId, Sequence[RowChoice]]
    ) -> dict[SessionId, tuple[ShadowRead, ...]]:
        """Read what was kept, each row with the choice that the target makes behind it."""
        if not kept:
            return {}
        started_ns = time.perf_counter_ns()
        rows = [
            [
                # What would have been hit beside a draft is told by bursts alone.
                replace(
                    wish,
                    num_candidates=0 if each.is_closing else NUM_RANKS,
                    wants_chance=each.item.session.request.wished.by_chance,
                )
                for wish in wishes[each.item.session.session_id][each.first_row :][: len(each.x_RD)]
            ]
            for each in kept
        ]
        found = read_kept(
            self._stack,
            [KeptRows(each.exit_layer, each.x_RD, r) for each, r in zip(kept, rows, strict=True)],
        )
        shadow: dict[SessionId, tuple[ShadowRead, ...]] = {}
        for each, choices in zip(kept, found, strict=True):
            read = ShadowRead(
                each.exit_layer,
                tuple(choices.tokens),
                tuple(choices.confidences),
                each.first_row,
                tuple(choices.candidates),
            )
            session_id = each.item.session.session_id
            shadow[session_id] = (*shadow.get(session_id, ()), read)
        self.read_ns = time.perf_counter_ns() - started_ns
        return shadow

    def _joining_rows(
        self, joining: Sequence[PassItem], batch: RowBatch, num_before: int, layer: int
    ) -> torch.Tensor:
        if layer == 0:
            return self._stack.embed(batch.prefix(num_before + len(joining)))
        parts = [
            self._pool.exit_states[item.session.exit_slot, : len(item.token_ids)]
            for item in joining
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _keep(
    items: Sequence[PassItem], batch: RowBatch, x_RD: torch.Tensor, layer: int
) -> Iterator[_Kept]:
    """Keep the states x_layer that items wish; all their head rows are among the active ones."""
    for item, span in zip(items, batch.spans, strict=True):
        for wish in item.reads:
            if wish.exit_layer == layer:
                first_row, is_closing = wish.first_row, wish.first_row == CLOSING_ROW
                if is_closing:
                    # Of a tree any leaf may be the last one.
                    first_row = item.num_heads - 1 if item.paths is None else 0
                start = span.row_end - item.num_heads + first_row
                yield _Kept(item, layer, first_row, x_RD[start : span.row_end], is_closing)


def _on_path(kept: Iterable[_Kept], results: Sequence[PassResult]) -> Iterator[_Kept]:
    """Leave out rows behind a refused draft, which tell nothing.

    Of a tree all are read, or the last one that was kept.
    """
    targets = {each.item.session.session_id: each.target_tokens for each in results}
    for each in kept:
        item = each.item
        if item.paths is not None:
            if each.is_closing:
                row = _last_kept_row(item, targets[item.session.session_id])
                each = replace(each, first_row=row, x_RD=each.x_RD[row : row + 1])
            yield each
            continue
        verdict = judge(item.token_ids[1:], targets[item.session.session_id])
        num_read = verdict.num_accepted + 1 - each.first_row
        if num_read > 0:
            yield replace(each, x_RD=each.x_RD[:num_read])


def _last_kept_row(item: PassItem, target_tokens: Sequence[TokenId]) -> int:
    """Return the row of a tree that the target's choices lead to."""
    assert item.paths is not None
    last = 0
    for row, path in enumerate(item.paths[1:], 1):
        if path[-2] == last and item.token_ids[row] == target_tokens[last]:
            last = row
    return last


def _table(item: PassItem) -> PageTable:
    assert item.session.table is not None, "a session without pages is in a pass"
    return item.session.table


def _head_rows(items: Sequence[PassItem]) -> list[int]:
    rows: list[int] = []
    end = 0
    for item in items:
        end += len(item.token_ids)
        rows += range(end - item.num_heads, end)
    return rows


def _wishes(item: PassItem) -> list[RowChoice]:
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


def _split(
    items: Sequence[PassItem],
    logits_RV: torch.Tensor,
    choices: Choices,
) -> list[PassResult]:
    results = []
    start = 0
    for item in items:
        end = start + item.num_heads
        wants_logits = item.session.request.num_logprobs is not None
        results.append(
            PassResult(
                item,
                choices.tokens[start:end],
                logits_RV[start:end] if wants_logits else None,
            )
        )
        start = end
    return results
