"""Texts of four kinds, and batches drawn from their mixture.

Knows nothing of models. Three kinds are read from a data directory, as xz-compressed or plain
UTF-8 whose documents end with a line `<|endoftext|>`:

    dialogue.train*.txt[.xz]  math.train*.txt[.xz]  stories.train*.txt[.xz]   and *.valid*

The fourth, code, is the standard library of the running Python without its tests; whole files are
held out by a hash of their path. Batches are pure functions of seed, step and row.
"""

import hashlib
import json
import lzma
import sysconfig
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from training.errors import TrainingError
from training.layerskip import Batch
from training.recipe import uniform
from training.tokenizer import END, TokenArray, encode, end_id_of, load_tokenizer, train_tokenizer

KINDS = ("dialogue", "math", "code", "stories")
MIXTURE = {"dialogue": 0.3, "math": 0.2, "code": 0.3, "stories": 0.2}
HELD_OUT_SHARE = 0.05
_TEST_FOLDERS = {"test", "tests", "idle_test", "site-packages", "__pycache__"}
_LENGTH_DRAW, _OFFSET_DRAW, _SNAP_DRAW, _KIND_DRAW = range(4)


def read_documents(data: Path, kind: str, split: str, max_bytes: int) -> list[str]:
    """Documents of one kind, `split` being "train" or "valid", about max_bytes of them at most.

    Raises:
        TrainingError: the directory, or the text of this kind in it, is missing or empty.
    """
    if kind == "code":
        documents = list(_cut(_library_files(split), max_bytes))
    else:
        paths = _text_files(data, kind, split)
        share = max_bytes // len(paths)
        documents = [text for path in paths for text in _cut(_documents_of(path), share)]
    if not documents:
        raise TrainingError(f"no {split} text of kind {kind!r} in {data}: the files are empty")
    return documents


def _text_files(data: Path, kind: str, split: str) -> list[Path]:
    if not data.is_dir():
        raise TrainingError(f"data directory {data} does not exist; name one with --data")
    paths = sorted({*data.glob(f"{kind}.{split}*.txt"), *data.glob(f"{kind}.{split}*.txt.xz")})
    if not paths:
        raise TrainingError(f"no {kind}.{split}*.txt or .txt.xz in {data}; add it there")
    return paths


def _documents_of(path: Path) -> Iterator[str]:
    """Documents of one file; the last need not be closed."""
    lines: list[str] = []
    try:
        with _open_text(path) as file:
            for line in file:
                if line.strip() == END:
                    yield "".join(lines)
                    lines = []
                else:
                    lines.append(line)
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read {path}: {error}; fetch the file again") from error
    yield "".join(lines)


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _library_files(split: str) -> Iterator[str]:
    """Sources of the standard library, in the order of a hash of their paths."""
    root = Path(sysconfig.get_path("stdlib"))
    names = (path.relative_to(root) for path in root.rglob("*.py"))
    kept = [name.as_posix() for name in names if not _TEST_FOLDERS & set(name.parts)]
    for name in sorted(kept, key=_path_hash):
        if is_held_out(name) == (split == "valid"):
            yield (root / name).read_text(encoding="utf-8", errors="ignore")


def _path_hash(name: str) -> float:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(name: str) -> bool:
    """Whether the library file of this relative path is kept from training."""
    return _path_hash(name) < HELD_OUT_SHARE


def _cut(documents: Iterator[str], max_bytes: int) -> Iterator[str]:
    """Non-empty documents until max_bytes are reached; the last one is cut."""
    for document in documents:
        text = document.strip("\n")
        if max_bytes <= 0:
            return
        if text:
            yield text[:max_bytes]
            max_bytes -= len(text)


class Corpus(NamedTuple):
    """Tokens of one kind and the places where documents start (sorted, the first is 0)."""

    tokens: TokenArray
    starts: npt.NDArray[np.int64]


def corpus_of(tokens: TokenArray, end_id: int) -> Corpus:
    """Index the documents of an array of ids."""
    ends = np.flatnonzero(tokens[:-1] == end_id) + 1
    return Corpus(tokens, np.concatenate(([0], ends)).astype(np.int64))


@dataclass(frozen=True)
class TokenSets:
    """The tokenizer and the corpora by kind."""

    tokenizer: Tokenizer
    train: Mapping[str, Corpus]
    valid: Mapping[str, Corpus]


def prepare(data: Path, cache: Path, vocab_size: int, max_bytes: int) -> TokenSets:
    """Train the tokenizer and encode all texts, or take both from the cache directory.

    The tokenizer sees the same amount of each kind, up to 1.5 MB.

    Raises:
        TrainingError: the texts do not do, or the cache was made with other arguments.
    """
    made_with = {"vocab_size": vocab_size, "max_bytes": max_bytes}
    record = cache / "prepared.json"
    if not record.exists():
        _fill_cache(data, cache, vocab_size, max_bytes)
        record.write_text(json.dumps(made_with), encoding="utf-8")
    stored = json.loads(record.read_text(encoding="utf-8"))
    if stored != made_with:
        raise TrainingError(f"{cache} was made with {stored}, not {made_with}; remove it")
    return _read_cache(cache)


def _read_cache(cache: Path) -> TokenSets:
    tokenizer = load_tokenizer(cache / "tokenizer.json")
    end_id = end_id_of(tokenizer)
    read = {
        split: {kind: corpus_of(np.load(cache / f"{kind}.{split}.npy"), end_id) for kind in KINDS}
        for split in ("train", "valid")
    }
    return TokenSets(tokenizer, read["train"], read["valid"])


def _fill_cache(data: Path, cache: Path, vocab_size: int, max_bytes: int) -> None:
    limits = {"train": max_bytes, "valid": max_bytes // 8}
    texts = {
        (kind, split): read_documents(data, kind, split, limit)
        for kind in KINDS
        for split, limit in limits.items()
    }
    samples = [text for kind in KINDS for text in _cut(iter(texts[kind, "train"]), 1_500_000)]
    cache.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(samples, vocab_size)
    for (kind, split), documents in texts.items():
        np.save(cache / f"{kind}.{split}.npy", encode(tokenizer, documents))
    tokenizer.save(str(cache / "tokenizer.json"))


@dataclass(frozen=True)
class BatchPlan:
    """How batches are drawn: `step_tokens` tokens per micro-batch, in rows of one length."""

    seed: int
    step_tokens: int
    short_len: int = 256
    long_len: int = 1024
    long_share: float = 0.25

    def row_len(self, step: int) -> int:
        """Length of the rows of this step.

        It is drawn, not periodic: a period of four would always train the same exits of a
        rotation of four on the long rows.
        """
        is_long = uniform(self.seed, _LENGTH_DRAW, step) < self.long_share
        return self.long_len if is_long else self.short_len

    def kinds(self, step: int, micro_batch: int, num_rows: int) -> list[str]:
        """Kinds of the rows, as even as the mixture allows (stratified)."""
        shift = uniform(self.seed, _KIND_DRAW, step, micro_batch)
        bounds = list(accumulate(MIXTURE.values()))[:-1]
        return [KINDS[bisect_right(bounds, (row + shift) / num_rows)] for row in range(num_rows)]

    def batch(self, corpora: Mapping[str, Corpus], step: int, micro_batch: int = 0) -> Batch:
        """The micro-batch of a step."""
        row_len = self.row_len(step)
        kinds = self.kinds(step, micro_batch, max(1, self.step_tokens // row_len))
        rows = [
            self._window(corpora[kind], row_len, (step, micro_batch, row))
            for row, kind in enumerate(kinds)
        ]
        return batch_of(np.stack(rows))

    def _window(self, corpus: Corpus, row_len: int, key: tuple[int, int, int]) -> TokenArray:
        """row_len + 1 tokens; half of the windows begin with their document, if it is near."""
        num_places = len(corpus.tokens) - row_len
        if num_places < 1:
            raise TrainingError(
                f"a text of {len(corpus.tokens)} tokens has no row of {row_len}; add text"
            )
        offset = int(uniform(self.seed, _OFFSET_DRAW, *key) * num_places)
        start = int(corpus.starts[np.searchsorted(corpus.starts, offset, side="right") - 1])
        if offset - start < row_len and uniform(self.seed, _SNAP_DRAW, *key) < 0.5:
            offset = start
        return corpus.tokens[offset : offset + row_len + 1]


def batch_of(windows: npt.NDArray[np.uint16]) -> Batch:
    """Inputs and targets out of windows [B, T+1]."""
    tokens = torch.from_numpy(windows.astype(np.int64))
    return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def held_out_windows(corpus: Corpus, num_windows: int, row_len: int) -> list[Batch]:
    """Batches of up to eight windows, spread evenly over the corpus; the same on every call.

    Raises:
        TrainingError: the text is shorter than one window.
    """
    room = len(corpus.tokens) - row_len - 1
    if room < 0:
        raise TrainingError(f"held-out text of {len(corpus.tokens)} tokens is shorter than a row")
    num_windows = max(1, min(num_windows, len(corpus.tokens) // (row_len + 1)))
    offsets = np.linspace(0, room, num_windows).astype(np.int64)
    rows = [corpus.tokens[offset : offset + row_len + 1] for offset in offsets]
    groups = [np.stack(rows[first : first + 8]) for first in range(0, len(rows), 8)]
    return [batch_of(group) for group in groups]
