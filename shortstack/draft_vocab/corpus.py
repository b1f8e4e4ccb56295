"""The texts of a corpus, in batches: plain UTF-8 files and JSON lines, each packed with xz or not.

A file named `*.jsonl` or `*.jsonl.xz` has an object with `text` or `prompt` on every line; any
other file is plain text. Nothing is ever held whole.
"""

import io
import json
import lzma
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shortstack.errors import UsageError

TEXT_FIELDS = ("text", "prompt")
# A plain file is cut behind lines: a few tokens at the seams count otherwise, of thousands.
PIECE_CHARS = 1 << 14
BATCH_CHARS = 1 << 19


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Some texts, and the bytes of all files that have been read with them, packed as they are."""

    texts: list[str]
    num_bytes_read: int


def require_corpus(paths: Sequence[Path]) -> int:
    """Return the size of all files together, in bytes.

    Raises:
        UsageError: one of them is no file.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"corpus {path} is no file; name text files with --corpus")
    return sum(path.stat().st_size for path in paths)


def read_corpus(paths: Sequence[Path]) -> Iterator[TextBatch]:
    """Yield all texts of the files, in order.

    Raises:
        UsageError: a file or one of its lines cannot be read; names it.
    """
    num_bytes_before = 0
    for path in paths:
        for batch in _read_file(path):
            yield TextBatch(batch.texts, num_bytes_before + batch.num_bytes_read)
        num_bytes_before += path.stat().st_size


def _read_file(path: Path) -> Iterator[TextBatch]:
    try:
        with path.open("rb") as file:
            unpacked = lzma.LZMAFile(file) if path.suffix == ".xz" else file  # noqa: SIM115 - closed by the next
            # Held by this frame: it closes the file when it goes.
            lines = io.TextIOWrapper(unpacked, encoding="utf-8", newline="")
            is_json = path.name.removesuffix(".xz").endswith(".jsonl")
            texts = _json_texts(lines, path) if is_json else _plain_pieces(lines)
            for batch in _batched(texts):
                yield TextBatch(batch, file.tell())
    except UnicodeDecodeError:
        raise UsageError(f"corpus {path} is not UTF-8; convert it first") from None
    except (lzma.LZMAError, EOFError) as error:
        raise UsageError(f"corpus {path} is no sound xz file: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read corpus {path}: {error.strerror}") from None


def _plain_pieces(lines: io.TextIOWrapper) -> Iterator[str]:
    while piece := lines.read(PIECE_CHARS) + lines.readline(PIECE_CHARS):
        yield piece


def _json_texts(lines: Iterable[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield from _fields_of(line, f"corpus {path}, line {number}")


def _fields_of(line: str, place: str) -> list[str]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{place}: not JSON: {error}") from None
    fields = value if isinstance(value, dict) else {}
    texts = [fields[name] for name in TEXT_FIELDS if name in fields]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{place}: must be an object with a text in `text` or `prompt`")
    return texts


def _batched(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_chars = 0
    for text in texts:
        batch.append(text)
        num_chars += len(text)
        if num_chars >= BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch
