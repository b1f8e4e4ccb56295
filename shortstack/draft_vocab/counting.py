"""How often each token came in a corpus, and which are the most frequent. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable

from shortstack.errors import UsageError


class TokenCounts:
    """Counts of token ids. `special_ids` are kept whatever their counts."""

    def __init__(self, vocab_size: int, special_ids: Collection[int]) -> None:
        self._vocab_size = vocab_size
        self._special_ids = frozenset(special_ids)
        self._counts: Counter[int] = Counter()

    def add(self, ids: Iterable[int]) -> None:
        """Count the ids of a text."""
        self._counts.update(ids)

    @property
    def num_tokens(self) -> int:
        """Tokens counted."""
        return self._counts.total()

    def require_sound(self) -> None:
        """Make sure that there is something to choose from.

        Raises:
            UsageError: nothing was counted, or an id that the model does not have.
        """
        if not self._counts:
            raise UsageError("the corpus holds no text; name other files with --corpus")
        largest = max(self._counts)
        if largest >= self._vocab_size:
            raise UsageError(
                f"the tokenizer makes id {largest}, the model has {self._vocab_size} ids: "
                "tokenizer.json is another model's"
            )

    def most_frequent(self, size: int) -> tuple[int, ...]:
        """Return `size` ids, ascending: the special ones, then the most frequent.

        Between equal counts, 0 among them, the lower id is taken: byte-pair and similar tokenizers
        number their tokens by frequency.

        Raises:
            ValueError: size is below the number of special ids or above the vocabulary.
        """
        if not len(self._special_ids) <= size <= self._vocab_size:
            raise ValueError(f"{size} ids with {len(self._special_ids)} special ones")
        others = (token for token in range(self._vocab_size) if token not in self._special_ids)
        ranked = sorted(others, key=lambda token: -self._counts[token])
        return tuple(sorted([*self._special_ids, *ranked[: size - len(self._special_ids)]]))

    def coverage(self, ids: Iterable[int]) -> float:
        """Return the share of all tokens counted that are among the ids."""
        return sum(self._counts[token] for token in ids) / self.num_tokens
