"""How many rounds there were of each kind, and all that follows from it. Pure.

A round costs one entry of a dictionary; whoever asks adds up. There are a few kinds for each exit
and draft length, a thousand where all of them vary, whatever number of sessions.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple, TypeVar

from shared.speculation.vocabulary import OFF, TokenSource

KeyT = TypeVar("KeyT", bound=Hashable)


class RoundKind(NamedTuple):
    """What a round was. Without drafts its method is off and its exit layer 0.

    num_on_path: see `RoundOutcome`.
    """

    method: str
    exit_layer: int
    policy: str
    num_drafted: int
    num_accepted: int
    num_emitted: int
    num_on_path: int


class RoundCounts:
    """Written by one thread; the sums may be asked for by any."""

    def __init__(self) -> None:
        """Begin without rounds."""
        self._counts: dict[RoundKind, int] = {}

    def note(
        self,
        method: str,
        exit_layer: int,
        policy: str,
        num_drafted: int,
        num_accepted: int,
        num_emitted: int,
        num_on_path: int | None = None,
    ) -> None:
        """Count a round; of one without drafts, method and exit layer do not matter.

        num_on_path: of a tree; None: all that were drafted.
        """
        if not num_drafted:
            method, exit_layer = OFF, 0
        kind = RoundKind(
            method,
            exit_layer,
            policy,
            num_drafted,
            num_accepted,
            num_emitted,
            num_drafted if num_on_path is None else num_on_path,
        )
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def __iter__(self) -> Iterator[tuple[RoundKind, int]]:
        # `copy` and not `items`: it is made in one step, whatever is counted meanwhile.
        return iter(self._counts.copy().items())

    def total(self, amount: Callable[[RoundKind], int]) -> int:
        """Return an amount summed over all rounds."""
        return sum(amount(kind) * count for kind, count in self)

    def by(
        self, key: Callable[[RoundKind], KeyT], amount: Callable[[RoundKind], int]
    ) -> dict[KeyT, float]:
        """Return an amount summed over all rounds, by a key."""
        sums: Counter[KeyT] = Counter()
        for kind, count in self:
            sums[key(kind)] += amount(kind) * count
        return {each: float(sum_) for each, sum_ in sums.items()}

    def by_source(self) -> dict[str, float]:
        """Return the tokens that rounds emitted, by where they came from."""
        sums: Counter[TokenSource] = Counter()
        for kind, count in self:
            sums[TokenSource.ACCEPTED] += kind.num_accepted * count
            # The target's own token; an end within the draft cuts it off.
            sums[_own_source(kind)] += (kind.num_emitted - kind.num_accepted) * count
        return {source.name.lower(): float(sums[source]) for source in TokenSource}

    def accepted_by_position(self) -> dict[str, float]:
        """Return the drafts accepted at each place of a draft, from 0."""
        sums: Counter[int] = Counter()
        for kind, count in self:
            for position in range(kind.num_accepted):
                sums[position] += count
        return {str(position): float(sums[position]) for position in sorted(sums)}

    def reached(self) -> dict[tuple[str, str], float]:
        """Return by exit and place, from 1, the drafts all before which were accepted."""
        return self._by_place(lambda kind: min(kind.num_on_path, kind.num_accepted + 1))

    def kept(self) -> dict[tuple[str, str], float]:
        """Return by exit and place, from 1, the drafts that were accepted."""
        return self._by_place(lambda kind: kind.num_accepted)

    def _by_place(self, last_place: Callable[[RoundKind], int]) -> dict[tuple[str, str], float]:
        sums: Counter[tuple[int, int]] = Counter()
        for kind, count in self:
            for place in range(1, last_place(kind) + 1):
                sums[kind.exit_layer, place] += count
        return {
            (str(layer), str(place)): float(sums[layer, place]) for layer, place in sorted(sums)
        }


def _own_source(kind: RoundKind) -> TokenSource:
    if not kind.num_drafted:
        return TokenSource.PLAIN
    is_whole = kind.num_accepted == kind.num_on_path
    return TokenSource.BONUS if is_whole else TokenSource.RECOVERED
