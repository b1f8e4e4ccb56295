"""The packed rows of a pass: linear layers see them all at once, attention sees one session's.

A row is one token at one position of one session. A span is the rows of one session:

    rows       [row_start ......... row_end)
    positions  [kv_len - num_rows .. kv_len)      the rows' own, attending to [0, kv_len) causally

Rows of a tree lie in the order of the tree and see what is on their path to its root. Slots are
then not positions:

    slots      [0, root)   root ......... root + r ......... kv_len      of row r and others
    position                              root + depth of row r
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from shared.model.page_table import PageTable
from shared.speculation.tree import RowPath


@dataclass(slots=True)
class Span:
    """Rows of one session and where its keys and values lie.

    slot_ranges: half-open ranges of slots that hold the positions [0, kv_len), in their order.
    paths: of rows of a tree, in rows of that tree; None: each sees all keys up to its own.
    masks: attention's, kept from layer to layer.
    """

    row_start: int
    row_end: int
    kv_len: int
    slot_ranges: list[tuple[int, int]]
    paths: Sequence[RowPath] | None = None
    masks: dict[tuple[int | None, int], torch.Tensor] = field(default_factory=dict)
    _slots_T: torch.Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Rows of this session in the pass."""
        return self.row_end - self.row_start

    @property
    def root(self) -> int:
        """Keys before it are seen by every row as far as a window reaches; those behind by some."""
        if self.paths is None:
            return self.kv_len - self.num_rows
        return self.kv_len - 1 - max(path[-1] for path in self.paths)

    @property
    def first_position(self) -> int:
        """The least position of a row."""
        if self.paths is None:
            return self.kv_len - self.num_rows
        return self.root + min(map(len, self.paths)) - 1

    @property
    def sees_all(self) -> bool:
        """Whether every row sees all keys, windows apart."""
        return self.num_rows == 1 and self.paths is None

    def slots_on(self, device: torch.device) -> torch.Tensor:
        """Return the slots of positions [0, kv_len) one by one, made once per pass."""
        if self._slots_T is None:
            slots = [slot for first, end in self.slot_ranges for slot in range(first, end)]
            self._slots_T = torch.tensor(slots, device=device)
        return self._slots_T


@dataclass(frozen=True, slots=True)
class SessionRows:
    """What one session brings to a pass: token ids for positions [start, start + len).

    paths: of rows of a tree whose row 0 is at `start`; None: the rows follow each other.
    """

    table: PageTable
    token_ids: list[int]
    start: int
    paths: Sequence[RowPath] | None = None


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

    def prefix_rows(self, num_rows: int) -> "RowBatch":
        """Return the first rows; a session's rows stay together."""
        if num_rows == self.num_rows:
            return self
        return self.prefix(sum(span.row_start < num_rows for span in self.spans))


def pack_rows(sessions: list[SessionRows], rope_table_P1C: torch.Tensor) -> RowBatch:
    """Pack the rows of sessions in the given order."""
    device = rope_table_P1C.device
    token_ids: list[int] = []
    slots: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    for session in sessions:
        start, paths = len(slots), session.paths
        token_ids += session.token_ids
        if paths is None:
            end = session.start + len(session.token_ids)
            slots += session.table.slots(session.start, end)
            positions += range(session.start, end)
        else:
            end = session.start + 1 + max(path[-1] for path in paths)
            tree_slots = session.table.slots(session.start, end)
            slots += [tree_slots[path[-1]] for path in paths]
            positions += [session.start + len(path) - 1 for path in paths]
        spans.append(Span(start, len(slots), end, _slot_ranges(session.table, end), paths))
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
