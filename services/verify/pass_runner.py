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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from services.verify.kept_states import KeptStates, keep_states, on_path
from services.verify.pass_items import PassItem, PassResult, choices_wanted
from shared.control.evidence.observation import NUM_RANKS
from shared.ids import SessionId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import Choices, RowChoice, choose
from shared.model.shadow_reads import KeptRows, read_kept
from shared.speculation.vocabulary import ShadowRead


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
        wishes = {item.session.session_id: choices_wanted(item) for item in items}
        choices = choose(logits_RV, [wish for each in wishes.values() for wish in each])
        results = _split(items, logits_RV, choices)
        shadow = self._read(list(on_path(kept, results)), wishes)
        return [
            replace(each, shadow=shadow.get(each.item.session.session_id, ())) for each in results
        ]

    def _run_layers(
        self, items: Sequence[PassItem], batch: RowBatch
    ) -> tuple[torch.Tensor, list[KeptStates]]:
        """Run every item from its resume layer on, from one join or wished exit to the next."""
        joins = {item.resume_layer for item in items}
        stops = joins.union(wish.exit_layer for item in items for wish in item.reads)
        x_RD = torch.empty(0, device=self._stack.device)
        kept: list[KeptStates] = []
        num_active = 0
        for layer, next_layer in pairwise([*sorted(stops), self._stack.config.num_layers]):
            if layer in joins:
                joining = [item for item in items if item.resume_layer == layer]
                joined = self._joining_rows(joining, batch, num_active, layer)
                x_RD = joined if num_active == 0 else torch.cat((x_RD, joined))
                num_active += len(joining)
            active = batch.prefix(num_active)
            kept += keep_states(items[:num_active], active, x_RD, layer)
            x_RD = self._stack.run(x_RD, layer, next_layer, active, self._pool.layers)
        return x_RD, kept

    def _read(
        self, kept: Sequence[KeptStates], wishes: Mapping[SessionId, Sequence[RowChoice]]
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
