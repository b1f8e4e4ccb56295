"""Skip sets: which sub-layers a draft of SWIFT leaves out (arXiv:2410.06916). Pure.

    sub-layer 2 * l        attention of layer l, with the norm before it
    sub-layer 2 * l + 1    gated MLP of layer l, with the norm before it
    skipped                identity on the residual stream: no norm, no KV, no work

The first and the last layer are never skipped, so 2 * (L - 2) sub-layers are open to choice. As a
bitmask, the form in which sets are stored and searched:

    bit j             attention of layer j + 1       0 <= j < L - 2
    bit (L - 2) + j   MLP of layer j + 1
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass

from shared.errors import InvalidRequest

# Fewer layers than that have none between the first and the last.
MIN_LAYERS = 3
# Products that should be whole fall short by less than this.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class SkipSet:
    """The sub-layers left out; none is the full model."""

    sub_layers: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.sub_layers)

    @classmethod
    def from_wire(cls, ids: Iterable[int]) -> "SkipSet":
        """Read sub-layers as they were sent; that they fit a model is `check`'s to say.

        Raises:
            InvalidRequest: they do not ascend.
        """
        ids = tuple(ids)
        found = cls(frozenset(ids))
        if found.to_wire() != ids:
            raise InvalidRequest(f"skip_set {ids} must ascend, each once", field="skip_set")
        return found

    def to_wire(self) -> tuple[int, ...]:
        """Return the sub-layers, ascending."""
        return tuple(sorted(self.sub_layers))

    @classmethod
    def from_bits(cls, bits: int, num_layers: int) -> "SkipSet":
        """Return the set of a bitmask.

        Raises:
            ValueError: the mask has bits that stand for no sub-layer of so many layers.
        """
        if not 0 <= bits < 1 << num_open(num_layers):
            raise ValueError(f"skip set {bits:#x} does not fit {num_layers} layers")
        middle = num_layers - 2
        chosen = [bit for bit in range(2 * middle) if bits >> bit & 1]
        return cls(frozenset(2 * (bit % middle + 1) + bit // middle for bit in chosen))

    def to_bits(self, num_layers: int) -> int:
        """Return the bitmask; the set fits so many layers."""
        middle = num_layers - 2
        return sum(1 << ((each % 2) * middle + each // 2 - 1) for each in self.sub_layers)

    def check(self, num_layers: int) -> None:
        """Refuse sub-layers that a model of so many layers has not, or that are never skipped.

        Raises:
            InvalidRequest: names what does not fit.
        """
        bad = [each for each in self.to_wire() if not 2 <= each < 2 * (num_layers - 1)]
        if bad:
            raise InvalidRequest(
                f"skip_set holds {bad}: sub-layers of layers [1, {num_layers - 1}) can be skipped",
                field="skip_set",
            )

    def distance(self, other: "SkipSet") -> int:
        """Return in how many sub-layers two sets differ (Hamming)."""
        return len(self.sub_layers ^ other.sub_layers)

    def swapped(self, num_layers: int, draw: random.Random) -> "SkipSet":
        """Return the set with one sub-layer skipped in place of another, drawn at random.

        The set itself where there is nothing to swap.
        """
        kept = sorted(set(range(2, 2 * (num_layers - 1))) - self.sub_layers)
        if not kept or not self.sub_layers:
            return self
        gone, come = draw.choice(self.to_wire()), draw.choice(kept)
        return SkipSet(self.sub_layers - {gone} | {come})


NOTHING_SKIPPED = SkipSet()


def num_open(num_layers: int) -> int:
    """Return B, the sub-layers that may be skipped; 0 where the layers are too few."""
    return max(0, 2 * (num_layers - 2))


def num_to_skip(num_layers: int, ratio: float) -> int:
    """Return K, how many sub-layers a share of those open to choice is."""
    return math.floor(num_open(num_layers) * ratio + ROUNDING)


def start_set(num_layers: int, num_skipped: int) -> SkipSet:
    """Return z0, the set that a search begins with: every second layer, as many as are wanted.

    Layers 1, 3, 5, ... are left out whole, the deepest given back first; beyond them 2, 4, ...
    """
    layers = [*range(1, num_layers - 1, 2), *range(2, num_layers - 1, 2)]
    ids = [sub_layer for layer in layers for sub_layer in (2 * layer, 2 * layer + 1)]
    return SkipSet(frozenset(ids[:num_skipped]))


def random_set(num_layers: int, num_skipped: int, draw: random.Random) -> SkipSet:
    """Return a set of so many sub-layers, each set as likely as any other."""
    return SkipSet(frozenset(draw.sample(range(2, 2 * (num_layers - 1)), num_skipped)))
