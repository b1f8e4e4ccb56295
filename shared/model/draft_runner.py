"""The draft side of the model: steps of one row per session, each leaving at its own exit layer.

rows sorted by exit layer, deepest first; at layer l the active rows are a prefix

layers  0 .......... E_2 .......... E_1
row 0   |============================|
row 1   |============================|
row 2   |=============|

Rows may leave states at exits that they pass, which are read behind the draft: `shadow_reads`.

Rows with a skip set run all layers less its sub-layers, those of equal sets together; in a step
with several sets one group runs behind the other, and the head serves all. (One pass with masks
would read the union of what the sets keep, at a ratio of .45 four fifths of the weights for two of
them instead of 1.1 times all; a cell has few sets, as streams share them.)
"""

from collections.abc import Sequence
from itertools import groupby

import torch

from shared.ids import TokenId
from shared.model.chances import choose_drafts
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import RowChoice
from shared.model.shadow_reads import KeptRows, read_kept
from shared.speculation.methods.base import Choice, DraftRow, HeadWish, ShadowWish
from shared.speculation.skip_set import SkipSet
from shared.speculation.vocabulary import RoundTask, ShadowRead


class StackDraftRunner:
    """Runs draft steps on a layer stack in a pool; implements `DraftRunner`.

    num_rows: of all steps so far.
    """

    def __init__(self, stack: LayerStack, pool: KVPool) -> None:
        self._stack = stack
        self._pool = pool
        self.num_rows = 0

    def open_table(self, task: RoundTask) -> PageTable:
        """Return the session's page table, checked against the pool."""
        return self._pool.page_table(task.extents)

    def read_history(self, table: PageTable, end: int) -> list[TokenId]:
        """Return the session's tokens at positions [0, end) from the shared region."""
        return [TokenId(token) for token in self._pool.read_tokens(table, end)] if end else []

    def step(self, rows: Sequence[DraftRow]) -> list[Choice]:
        """Run one step; writes the rows' KV and, of those with an exit, their states there."""
        self.num_rows += len(rows)
        exits_RD = self._run_groups(rows)
        wishes = [(index, row.head) for index, row in enumerate(rows) if row.head is not None]
        if not wishes:
            return []
        row_choices = [_row_choice(head) for _, head in wishes]
        # What was stored is the raw exit: verification goes on from that.
        z_RD = self._read_exits(rows, [index for index, _ in wishes], exits_RD)
        read_at = [rows[index].exit_layer for index, _ in wishes]
        choices = choose_drafts(self._stack, z_RD, row_choices, read_at)
        candidates = choices.candidates or [()] * len(choices.tokens)
        return list(map(Choice, choices.tokens, choices.confidences, candidates))

    def read_shadow(self, wishes: Sequence[ShadowWish]) -> list[tuple[ShadowRead, ...]]:
        """Read what rows left behind, all in one call of the head that drafts."""
        kept = [
            KeptRows(exit_layer, torch.cat(states), [_row_choice(head) for head in wish.heads])
            for wish in wishes
            for exit_layer, states in wish.kept.items()
        ]
        found = iter(read_kept(self._stack, kept))
        return [
            tuple(
                ShadowRead(exit_layer, tuple(choices.tokens), tuple(choices.confidences))
                for exit_layer, choices in ((each, next(found)) for each in wish.kept)
            )
            for wish in wishes
        ]

    def _run_groups(self, rows: Sequence[DraftRow]) -> torch.Tensor:
        """Return what the head reads of every row [R, D], in the order of the rows."""
        if all(row.skip_set is None for row in rows):
            return self._run_exits(rows)
        groups: dict[SkipSet | None, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.skip_set, []).append(index)
        parts = [
            self._run_exits([rows[index] for index in group])
            if skip_set is None
            else self._run_skipping([rows[index] for index in group], skip_set)
            for skip_set, group in groups.items()
        ]
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([index for group in groups.values() for index in group])
        return torch.cat(parts)[order.argsort().to(self._stack.device)]

    def _run_exits(self, rows: Sequence[DraftRow]) -> torch.Tensor:
        """Run rows to their exits, deepest first, and store their exit states."""
        self._stack.ensure_loaded(rows[0].exit_layer)
        batch = pack_rows(_by_session(rows), self._stack.rope_table_P1C)
        exits_RD = self._run_to_exits(rows, batch)
        self._store(rows, exits_RD)
        return exits_RD

    def _run_skipping(self, rows: Sequence[DraftRow], skip_set: SkipSet) -> torch.Tensor:
        """Run rows of one skip set through all layers less its sub-layers."""
        stack = self._stack
        stack.ensure_loaded(stack.config.num_layers)
        batch = pack_rows(_by_session(rows), stack.rope_table_P1C)
        return stack.run_without(skip_set, stack.embed(batch), batch, self._pool.layers)

    def _run_to_exits(self, rows: Sequence[DraftRow], batch: RowBatch) -> torch.Tensor:
        """Return x_E [R, D], each row at its own exit; stops where rows keep a state as well."""
        x_RD = self._stack.embed(batch)
        left: list[torch.Tensor] = []
        layer, num_active = 0, len(rows)
        for stop in _stops(rows):
            active = batch.prefix_rows(num_active)
            x_RD = self._stack.run(x_RD, layer, stop, active, self._pool.layers)
            _keep(rows[:num_active], x_RD, stop)
            num_staying = sum(row.exit_layer > stop for row in rows[:num_active])
            if num_staying < num_active:
                left.insert(0, x_RD[num_staying:])
                x_RD = x_RD[:num_staying]
            layer, num_active = stop, num_staying
        return left[0] if len(left) == 1 else torch.cat(left)

    def _read_exits(
        self,
        rows: Sequence[DraftRow],
        wished: Sequence[int],
        exits_RD: torch.Tensor,
    ) -> torch.Tensor:
        """Return what the head reads of the wished rows: exits, or what draft adapters make."""
        stack = self._stack
        parts = []
        for adapter_layer, alike in groupby(wished, key=lambda index: _adapter_layer(rows[index])):
            indices = list(alike)
            x_RD = exits_RD
            if len(indices) < len(rows):
                x_RD = exits_RD.index_select(0, torch.tensor(indices, device=stack.device))
            if adapter_layer:
                own = pack_rows(
                    _by_session([rows[index] for index in indices]), stack.rope_table_P1C
                )
                z_RD = stack.read_through_adapter(x_RD, adapter_layer, own, self._pool.layers)
            else:
                z_RD = stack.read_exits(x_RD, [rows[index].exit_layer for index in indices])
            parts.append(z_RD)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _store(self, rows: Sequence[DraftRow], exits_RD: torch.Tensor) -> None:
        if len(rows) == 1:
            self._pool.exit_states[rows[0].exit_slot, rows[0].row_index].copy_(exits_RD[0])
            return
        slots = torch.tensor([row.exit_slot for row in rows], device=exits_RD.device)
        indices = torch.tensor([row.row_index for row in rows], device=exits_RD.device)
        self._pool.exit_states.index_put_((slots, indices), exits_RD)


def _by_session(rows: Sequence[DraftRow]) -> list[SessionRows]:
    """Return the rows by session: only trees have several in a step."""
    sessions: list[SessionRows] = []
    for table, group in groupby(rows, key=lambda row: row.table):
        own = list(group)
        paths = [row.path for row in own if row.path is not None]
        if not paths:
            sessions += map(_alone, own)
            continue
        assert len(paths) == len(own), "rows of a tree beside rows of a chain"
        root = own[0].position - len(paths[0]) + 1
        sessions.append(SessionRows(table, [row.token_id for row in own], root, paths))
    return sessions


def _alone(row: DraftRow) -> SessionRows:
    """Return a row of a chain, the only one of its session in a step."""
    return SessionRows(row.table, [row.token_id], row.position)


def _adapter_layer(row: DraftRow) -> int:
    """Return the exit whose draft adapter a row is read through; 0: none."""
    return row.exit_layer if row.through_adapter else 0


def _row_choice(head: HeadWish) -> RowChoice:
    return RowChoice(
        head.params,
        head.position,
        head.prompt_len,
        head.history,
        head.num_candidates,
        head.wants_chance,
    )


def _stops(rows: Sequence[DraftRow]) -> list[int]:
    """Return the layers at which rows leave or keep a state, ascending."""
    stops = {row.exit_layer for row in rows}
    return sorted(stops.union(*(row.kept for row in rows if row.kept is not None)))


def _keep(rows: Sequence[DraftRow], x_RD: torch.Tensor, stop: int) -> None:
    for index, row in enumerate(rows):
        if row.kept is not None and stop in row.kept:
            row.kept[stop].append(x_RD[index : index + 1])
