"""What lies in a cell's shared segment: KV of all layers, exit-state rows, token ids, a check word.

Both workers compute the same views from the same layout; the verify worker creates the segment, the
draft worker maps it. Who may write what at which moment is the round's matter, not this module's.

    check word   int64 [1]           the owner's boot id
    token ids    int32 [S]           the token in every slot
    exit states  [slots, rows, D]    rows handed over by drafts, not normed
    KV           [L][2, G, S, H]     keys (rotated) and values
"""

from dataclasses import dataclass
from functools import cached_property

import torch

from shared.errors import StaleHandle
from shared.model.config import DTYPES
from shared.model.page_table import PageTable
from shared.model.segment import Segment
from shared.speculation.vocabulary import Extent

ALIGNMENT_BYTES = 4096


@dataclass(frozen=True)
class PoolLayout:
    """Sizes of everything in the segment; offsets follow from them."""

    num_pages: int
    page_size: int
    num_kv_layers: int
    num_kv_heads: int
    head_size: int
    hidden_size: int
    num_exit_slots: int
    max_rows: int
    dtype_name: str

    @property
    def num_slots(self) -> int:
        """Positions that the pool holds."""
        return self.num_pages * self.page_size

    @property
    def dtype(self) -> torch.dtype:
        """Element type of KV and exit states."""
        return DTYPES[self.dtype_name]

    @cached_property
    def _sizes_bytes(self) -> tuple[int, int, int, int]:
        element = self.dtype.itemsize
        layer = 2 * self.num_kv_heads * self.num_slots * self.head_size * element
        exits = self.num_exit_slots * self.max_rows * self.hidden_size * element
        return 8, self.num_slots * 4, exits, layer * self.num_kv_layers

    @cached_property
    def offsets_bytes(self) -> tuple[int, int, int, int, int]:
        """Start of the check word, token ids, exit states and KV, and the end."""
        offsets = [0]
        for size in self._sizes_bytes:
            end = offsets[-1] + size
            offsets.append(-(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES)
        return offsets[0], offsets[1], offsets[2], offsets[3], offsets[4]

    @property
    def size_bytes(self) -> int:
        """Size of the whole segment."""
        return self.offsets_bytes[-1]


class KVPool:
    """Views of a segment by layout."""

    def __init__(self, segment: Segment, layout: PoolLayout) -> None:
        self.segment = segment
        self.layout = layout
        at = layout.offsets_bytes
        dtype = layout.dtype
        self.check_word = self._view(at[0], torch.int64, (1,))
        self.token_ids_S = self._view(at[1], torch.int32, (layout.num_slots,))
        self.exit_states = self._view(
            at[2], dtype, (layout.num_exit_slots, layout.max_rows, layout.hidden_size)
        )
        kv_shape = (2, layout.num_kv_heads, layout.num_slots, layout.head_size)
        self._kv_L2GSH = self._view(at[3], dtype, (layout.num_kv_layers, *kv_shape))
        self.layers: list[torch.Tensor] = list(self._kv_L2GSH.unbind(0))

    def _view(self, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
        num_bytes = dtype.itemsize
        for size in shape:
            num_bytes *= size
        return self.segment.bytes_S[offset : offset + num_bytes].view(dtype).view(shape)

    def page_table(self, extents: tuple[Extent, ...]) -> PageTable:
        """Return a table over extents that a peer named.

        Raises:
            StaleHandle: an extent lies outside the pool.
        """
        for extent in extents:
            if extent.num_pages < 1 or extent.first_page + extent.num_pages > self.layout.num_pages:
                raise StaleHandle(f"{extent} lies outside the {self.layout.num_pages} pages")
        return PageTable(extents, self.layout.page_size)

    def write_tokens(self, table: PageTable, start: int, tokens: list[int]) -> None:
        """Note the token ids of positions [start, start + len(tokens))."""
        slots = torch.tensor(
            table.slots(start, start + len(tokens)), device=self.token_ids_S.device
        )
        ids = torch.tensor(tokens, dtype=torch.int32, device=self.token_ids_S.device)
        self.token_ids_S.index_copy_(0, slots, ids)

    def read_tokens(self, table: PageTable, end: int) -> list[int]:
        """Return the token ids of positions [0, end)."""
        slots = torch.tensor(table.slots(0, end), device=self.token_ids_S.device)
        tokens: list[int] = self.token_ids_S.index_select(0, slots).tolist()
        return tokens

    def copy_positions(self, source: list[int], target: list[int]) -> None:
        """Copy KV of all layers and token ids from slots to slots, as if all at once.

        A fence moves a tail page, the commit of a tree the path that it keeps.
        """
        device = self.token_ids_S.device
        source_S = torch.tensor(source, device=device)
        target_S = torch.tensor(target, device=device)
        self._kv_L2GSH.index_copy_(3, target_S, self._kv_L2GSH.index_select(3, source_S))
        self.token_ids_S.index_copy_(0, target_S, self.token_ids_S.index_select(0, source_S))

    def close(self) -> None:
        """Give the segment back."""
        self.segment.close()
