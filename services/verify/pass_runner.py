"""The verify pass: one ragged run of the full stack over the rows of many sessions.

Rows join at the layer where their session's verification resumes:

    layers   0 ......... E_1 ......... E_2 ......... L
    plain    |=======================================|   prefill chunks and plain rows
    session 1            |===========================|   k+1 rows from their exit states
    session 2                          |=============|
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from services.verify.scheduler import Plan
from services.verify.session import Logprobs, Session
from shared.ids import TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import Choices, RowChoice, choose, logprobs_of
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import Draft


@dataclass(frozen=True, slots=True)
class PassItem:
    """Rows of one session: tokens at positions from `start`, joining at `resume_layer`.

    The last `num_heads` rows get a choice: none of an unfinished prefill, the last of a finished
    one, all of a round.
    """

    session: Session
    token_ids: tuple[TokenId, ...]
    start: int
    resume_layer: int
    num_heads: int


@dataclass(frozen=True, slots=True)
class PassResult:
    """The target's choices behind an item's head rows, and their logits if they are wanted."""

    item: PassItem
    target_tokens: list[TokenId]
    logits_RV: torch.Tensor | None

    def logprobs(self, tokens: Sequence[TokenId]) -> tuple[Logprobs, ...]:
        """Return the raw log probabilities of the first tokens, if the session wants them."""
        num_top = self.item.session.request.num_logprobs
        if num_top is None or self.logits_RV is None:
            return ()
        return tuple(logprobs_of(self.logits_RV[: len(tokens)], tokens, num_top))


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
        items.append(PassItem(session, tokens, session.num_run, resume, len(tokens)))
    return items


class PassRunner:
    """Runs passes on a layer stack in a pool."""

    def __init__(self, stack: LayerStack, pool: KVPool) -> None:
        self._stack = stack
        self._pool = pool
        self.num_passes = 0

    def hand_over(self) -> None:
        """Make all writes visible before a message hands the right to write over."""
        self._stack.synchronize()

    def run(self, items: Sequence[PassItem]) -> list[PassResult]:
        """Run all items' rows to the end and choose where heads are wanted."""
        if not items:
            return []
        items = sorted(items, key=lambda item: item.resume_layer)
        self.num_passes += 1
        batch = pack_rows(
            [SessionRows(_table(item), list(item.token_ids), item.start) for item in items],
            self._stack.rope_table_P1C,
        )
        x_RD = self._run_layers(items, batch)
        head_rows = _head_rows(items)
        if not head_rows:
            return [PassResult(item, [], None) for item in items]
        if len(head_rows) < batch.num_rows:
            x_RD = x_RD.index_select(0, torch.tensor(head_rows, device=x_RD.device))
        logits_RV = self._stack.head(x_RD)
        choices = choose(logits_RV, [wish for item in items for wish in _wishes(item)])
        return _split(items, logits_RV, choices)

    def _run_layers(self, items: Sequence[PassItem], batch: RowBatch) -> torch.Tensor:
        """Run every item from its resume layer on: from one join to the next."""
        joins = sorted({item.resume_layer for item in items})
        bounds = [*joins, self._stack.config.num_layers]
        x_RD = torch.empty(0, device=self._stack.device)
        num_active = 0
        for layer, next_layer in pairwise(bounds):
            joining = [item for item in items if item.resume_layer == layer]
            joined = self._joining_rows(joining, batch, num_active, layer)
            x_RD = joined if num_active == 0 else torch.cat((x_RD, joined))
            num_active += len(joining)
            active = batch.prefix(num_active)
            x_RD = self._stack.run(x_RD, layer, next_layer, active, self._pool.layers)
        return x_RD

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
    end = item.start + len(item.token_ids)
    positions = range(end - item.num_heads + 1, end + 1)
    if not request.sampling.needs_history:
        return [RowChoice(request.sampling, position, session.prompt_len) for position in positions]
    history = [*session.tokens[: item.start], *item.token_ids]
    return [
        RowChoice(request.sampling, position, session.prompt_len, history[:position])
        for position in positions
    ]


def _split(
    items: Sequence[PassItem], logits_RV: torch.Tensor, choices: Choices
) -> list[PassResult]:
    results = []
    start = 0
    for item in items:
        end = start + item.num_heads
        wants_logits = item.session.request.num_logprobs is not None
        results.append(
            PassResult(
                item, choices.tokens[start:end], logits_RV[start:end] if wants_logits else None
            )
        )
        start = end
    return results
