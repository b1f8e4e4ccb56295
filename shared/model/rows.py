"""The packed rows of a pass: linear layers see them all at once, attention sees one session's.

A row is one token at one position of one session. A span is the rows of one session:

    rows       [row_start ......... row_end)
    positions  [kv_len - num_rows .. kv_len)      the rows' own, attending to [0, kv_len) causally
"""

from dataclasses import dataclass, field

import torch

from shared.model.page_table import PageTable


@dataclass(slots=True)
class Span:
    """Rows of one session and where its keys and values lie."""

    row_start: int
    row_end: int
    kv_len: int
    base_slot: int | None
    gather_slots: torch.Tensor | None
    masks: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Rows of this session in the pass."""
        return self.row_end - self.row_start


@dataclass(frozen=True, slots=True)
class SessionRows:
    """What one session brings to a pass: token ids for positions [start, start + len)."""

    table: PageTable
    token_ids: list[int]
    start: int


@dataclass(slots=True)
class RowBatch:
    """Rows of several sessions, in order; all tensors on the model's device."""

    token_ids_R: torch.Tensor
    slots_R: torch.Tensor
    rope_R1C: torch.Tensor
    spans: list[Span]

    @property
    def num_rows(self) -> int:
        """R."""
        return self.spans[-1].row_end if self.spans else 0

    def prefix(self, num_spans: int) -> "RowBatch":
        """Return the rows of the first `num_spans` sessions."""
        if num_spans == len(self.spans):
            return self
        spans = self.spans[:num_spans]
        end = spans[-1].row_end if spans else 0
        return RowBatch(self.token_ids_R[:end], self.slots_R[:end], self.rope_R1C[:end], spans)


def pack_rows(sessions: list[SessionRows], rope_table_P1C: torch.Tensor) -> RowBatch:
    """Pack the rows of sessions in the given order."""
    device = rope_table_P1C.device
    token_ids: list[int] = []
    slots: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    for session in sessions:
        end = session.start + len(session.token_ids)
        spans.append(_make_span(session.table, len(slots), session.start, end, device))
        token_ids += session.token_ids
        slots += session.table.slots(session.start, end)
        positions += range(session.start, end)
    positions_R = torch.tensor(positions, device=device)
    return RowBatch(
        torch.tensor(token_ids, device=device),
        torch.tensor(slots, device=device),
        rope_table_P1C.index_select(0, positions_R),
        spans,
    )


def _make_span(
    table: PageTable, row_start: int, start: int, end: int, device: torch.device
) -> Span:
    base = table.base_slot
    gather = None if base is not None else torch.tensor(table.slots(0, end), device=device)
    return Span(row_start, row_start + end - start, end, base, gather)
