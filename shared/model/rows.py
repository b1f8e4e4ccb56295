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
    """Rows of one session and where its keys and values lie.

    slot_ranges: half-open ranges of slots that hold the positions [0, kv_len), in their order.
    masks: attention's, kept from layer to layer.
    """

    row_start: int
    row_end: int
    kv_len: int
    slot_ranges: list[tuple[int, int]]
    masks: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)
    _slots_T: torch.Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows of this session in the pass."""
        return self.row_end - self.row_start

    def slots_on(self, device: torch.device) -> torch.Tensor:
        """Return the slots of positions [0, kv_len) one by one, made once per pass."""
        if self._slots_T is None:
            slots = [slot for first, end in self.slot_ranges for slot in range(first, end)]
            self._slots_T = torch.tensor(slots, device=device)
        return self._slots_T


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
        start = len(slots)
        end = session.start + len(session.token_ids)
        token_ids += session.token_ids
        slots += session.table.slots(session.start, end)
        positions += range(session.start, end)
        spans.append(Span(start, len(slots), end, _slot_ranges(session.table, end)))
    # One copy to the device for all three.
    packed_3R = torch.tensor((token_ids, slots, positions), device=device)
    token_ids_R, slots_R, positions_R = packed_3R.unbind(0)
    rope_R1C = rope_table_P1C.index_select(0, positions_R)
    return RowBatch(token_ids_R, slots_R, rope_R1C, spans)


def _slot_ranges(table: PageTable, end: int) -> list[tuple[int, int]]:
    """Return the ranges of slots that hold the positions [0, end)."""
    ranges: list[tuple[int, int]] = []
    for extent in table.extents:
        first = extent.first_page * table.page_size
        taken = min(extent.num_pages * table.page_size, end)
        ranges.append((first, first + taken))
        end -= taken
        if end == 0:
            break
    return ranges
