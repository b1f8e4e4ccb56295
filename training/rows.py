"""Rows of tokens: what a training step reads, as a pure function of seed and index.

Knows nothing of models. Row i of the training set belongs to step i // rows_per_step, so an
interrupted run reads on where it was, and data-parallel ranks share out one global batch. Labels
are already shifted: label j is the token that follows input j; IGNORED is not learnt.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from training.errors import TrainingError
from training.recipe import uniform

IGNORED = -100
TokenArray = npt.NDArray[np.int64]
Row = dict[str, Tensor]
"""`input_ids` and `labels`, int64 [T]."""

_LENGTH_DRAW, _OFFSET_DRAW, _SNAP_DRAW, _KIND_DRAW = range(4)


class Rows(Protocol):
    """A split of one source."""

    is_task: bool

    def check(self, row_lens: Sequence[int]) -> None:
        """Refuse, before the run begins, a split that cannot fill rows of these lengths."""
        ...

    def draw(self, row_len: int, key: tuple[int, ...]) -> Row:
        """A row for training, chosen by a draw on the key."""
        ...

    def spread(self, num_rows: int, row_len: int) -> list[Row]:
        """Rows for evaluation, spread over the split; the same on every call."""
        ...


class Corpus(NamedTuple):
    """Tokens of one split and the places where documents start (sorted, the first is 0)."""

    tokens: npt.NDArray[np.unsignedinteger]
    starts: npt.NDArray[np.int64]


def corpus_of(tokens: npt.NDArray[np.unsignedinteger], end_id: int) -> Corpus:
    """Index the documents of an array of ids."""
    ends = np.flatnonzero(tokens[:-1] == end_id) + 1
    return Corpus(tokens, np.concatenate(([0], ends)).astype(np.int64))


@dataclass(frozen=True)
class TextRows:
    """Windows of running text; half of those that could begin with their document do."""

    name: str
    corpus: Corpus
    is_task: bool = False

    def check(self, row_lens: Sequence[int]) -> None:
        """Refuse text that is shorter than a row."""
        self._num_places(max(row_lens))

    def _num_places(self, row_len: int) -> int:
        num_places = len(self.corpus.tokens) - row_len
        if num_places < 1:
            raise TrainingError(
                f"source {self.name}: {len(self.corpus.tokens)} tokens make no row of {row_len};"
                " add text, or lower data.row_len or data.long_row_len"
            )
        return num_places

    def draw(self, row_len: int, key: tuple[int, ...]) -> Row:
        """A window anywhere in the text."""
        offset = int(uniform(*key, _OFFSET_DRAW) * self._num_places(row_len))
        starts = self.corpus.starts
        start = int(starts[np.searchsorted(starts, offset, side="right") - 1])
        if offset - start < row_len and uniform(*key, _SNAP_DRAW) < 0.5:
            offset = start
        return self._window(offset, row_len)

    def spread(self, num_rows: int, row_len: int) -> list[Row]:
        """Windows at even distances."""
        last = self._num_places(row_len) - 1
        num_rows = max(1, min(num_rows, len(self.corpus.tokens) // (row_len + 1)))
        return [self._window(int(at), row_len) for at in np.linspace(0, last, num_rows)]

    def _window(self, offset: int, row_len: int) -> Row:
        window = torch.from_numpy(
            self.corpus.tokens[offset : offset + row_len + 1].astype(np.int64)
        )
        return {"input_ids": window[:-1], "labels": window[1:]}


class Example(NamedTuple):
    """A prompt and its completion in tokens, the latter with the end token."""

    prompt: Sequence[int]
    completion: Sequence[int]
    place: str


@dataclass(frozen=True)
class TaskRows:
    """One example to a row, padded on the right; only the completion is learnt.

    Padding needs no mask: attention is causal, so no learnt position sees it.
    """

    name: str
    examples: Sequence[Example]
    pad_id: int
    is_task: bool = True

    def draw(self, row_len: int, key: tuple[int, ...]) -> Row:
        """Any example."""
        return self._row(int(uniform(*key, _OFFSET_DRAW) * len(self.examples)), row_len)

    def spread(self, num_rows: int, row_len: int) -> list[Row]:
        """Examples at even distances."""
        num_rows = min(num_rows, len(self.examples))
        return [
            self._row(int(i), row_len) for i in np.linspace(0, len(self.examples) - 1, num_rows)
        ]

    def _row(self, index: int, row_len: int) -> Row:
        example = self.examples[index]
        ids = [*example.prompt, *example.completion]
        if len(ids) > row_len + 1:
            raise TrainingError(
                f"{example.place}: {len(ids)} tokens do not fit a row of {row_len};"
                " shorten the example or raise data.row_len"
            )
        first, num_pads = len(example.prompt) - 1, row_len + 1 - len(ids)
        labels = [IGNORED] * first + list(example.completion) + [IGNORED] * num_pads
        padded = [*ids[:-1], *[self.pad_id] * num_pads]
        return {"input_ids": torch.tensor(padded), "labels": torch.tensor(labels)}

    def check(self, row_lens: Sequence[int]) -> None:
        """Refuse examples that are too long before the run begins."""
        for index in range(len(self.examples)):
            self._row(index, min(row_lens))


@dataclass(frozen=True)
class Mixture(Dataset[Row]):
    """The rows of a whole run: `num_steps` times `rows_per_step` of them, in order.

    epoch_steps: after so many steps the same rows come again; None: they never do.
    """

    sources: Mapping[str, Rows]
    shares: Sequence[float]
    seed: int
    num_steps: int
    rows_per_step: int
    row_len: int
    long_row_len: int | None = None
    long_share: float = 0.0
    epoch_steps: int | None = None

    def __len__(self) -> int:
        return self.num_steps * self.rows_per_step

    def __getitem__(self, index: int) -> Row:
        step, row = divmod(index, self.rows_per_step)
        step = self._step_of_epoch(step)
        rows = list(self.sources.values())[self.source_of(step, row)]
        return rows.draw(self.row_len_of(step), (self.seed, step, row))

    def _step_of_epoch(self, step: int) -> int:
        return step % self.epoch_steps if self.epoch_steps else step

    def row_len_of(self, step: int) -> int:
        """Length of the rows of a step."""
        step = self._step_of_epoch(step)
        is_long = uniform(self.seed, step, _LENGTH_DRAW) < self.long_share
        return self.long_row_len if self.long_row_len and is_long else self.row_len

    def num_tokens(self, num_steps: int) -> int:
        """Tokens of the first num_steps steps, padding counted."""
        return sum(self.rows_per_step * self.row_len_of(step) for step in range(num_steps))

    def source_of(self, step: int, row: int) -> int:
        """Index of the source of a row: as even within a step as the shares allow (stratified)."""
        shift = uniform(self.seed, step, _KIND_DRAW)
        bounds = list(accumulate(self.shares))[:-1]
        return bisect_right(bounds, (row + shift) / self.rows_per_step)
