"""Prefix index: which cells have seen how much of a prompt. Pure; a hint, never a promise.

A cell that has computed the beginning of a prompt before may have kept it. What the gateway knows
of that is what it sent there: the hashes of the leading blocks of those prompts, the least recently
used forgotten first. Each hash covers all tokens before it too, so a prompt is known up to its
first unknown block. A collision costs time only.
"""

from collections import OrderedDict
from collections.abc import Collection, Hashable, Sequence

BLOCK_LEN = 64
# Of a prompt: longer beginnings than this are taken for equal.
MAX_BLOCKS = 256
# Of a boot of a cell: about a million tokens.
MAX_HASHES = 16_384


def prefix_hashes(token_ids: Sequence[int], block_len: int = BLOCK_LEN) -> tuple[int, ...]:
    """Return one hash for every full leading block, each covering all tokens up to its end."""
    num_blocks = min(len(token_ids) // block_len, MAX_BLOCKS)
    hashes = []
    chained = 0
    for index in range(num_blocks):
        block = tuple(token_ids[index * block_len : (index + 1) * block_len])
        chained = hash((chained, block))
        hashes.append(chained)
    return tuple(hashes)


class PrefixIndex:
    """The prefixes known of each cell."""

    def __init__(self, max_hashes: int = MAX_HASHES) -> None:
        """Start knowing nothing; of each cell at most `max_hashes` are kept."""
        self._max_hashes = max_hashes
        self._known: dict[Hashable, OrderedDict[int, None]] = {}

    def note(self, cell: Hashable, hashes: Sequence[int]) -> None:
        """Note that a cell got a prompt."""
        if not hashes:
            return
        known = self._known.setdefault(cell, OrderedDict())
        # From the end, so that what a prompt begins with is forgotten last.
        for chained in reversed(hashes):
            known[chained] = None
            known.move_to_end(chained)
        while len(known) > self._max_hashes:
            known.popitem(last=False)

    def num_known(self, cell: Hashable, hashes: Sequence[int]) -> int:
        """Return how many leading blocks of a prompt a cell has got before."""
        known = self._known.get(cell, ())
        for index, chained in enumerate(hashes):
            if chained not in known:
                return index
        return len(hashes)

    def keep_only(self, cells: Collection[Hashable]) -> None:
        """Forget all other cells."""
        for cell in [cell for cell in self._known if cell not in cells]:
            del self._known[cell]
