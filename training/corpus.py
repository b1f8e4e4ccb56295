"""The documents of a run's sources, read from files as they are.

Knows nothing of tokens. Formats: plain text whose documents end with a line `<|endoftext|>`, JSON
lines, and the standard library of the running Python, of which one file in twenty is held out by a
hash of its path. Files may be packed with xz.
"""

import hashlib
import json
import lzma
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from training.errors import TrainingError
from training.sections import Source
from training.tokenizer import END

HELD_OUT_SHARE = 0.05
SPLITS = ("train", "valid")
_TEST_FOLDERS = {"test", "tests", "idle_test", "site-packages", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """A text; of one with a prompt, only what follows the prompt is learnt.

    `place` names where it was read, for errors.
    """

    text: str
    prompt: str | None = None
    place: str = ""


def read_documents(source: Source, data: Path | None, split: str) -> list[Document]:
    """Documents of a source, `split` being "train" or "valid", max_mb of them at most.

    Raises:
        TrainingError: files are missing, damaged, of another format, or hold no text.
    """
    budget = int(source.max_mb * 1e6)
    if source.format == "python-library":
        documents = list(_cut(_library_files(split), budget))
    else:
        paths = files_of(source, data, split)
        read = _json_documents if source.format == "jsonl" else _text_documents
        each = budget // len(paths)
        documents = [document for path in paths for document in _cut(read(path), each)]
    if not documents:
        raise TrainingError(f"source {source.name}: its {split} files are empty; add text")
    return documents


def files_of(source: Source, data: Path | None, split: str) -> list[Path]:
    """The files of a source; none if it is the standard library.

    Raises:
        TrainingError: there are none.
    """
    if source.format == "python-library":
        return []
    if data is None:
        raise TrainingError(
            f"source {source.name} needs a data directory: give --data DIR or data.path"
        )
    if not data.is_dir():
        raise TrainingError(f"data directory {data} does not exist; name one with --data")
    patterns = source.train if split == "train" else source.valid
    try:
        paths = sorted({path for pattern in patterns for path in data.glob(pattern)})
    except (ValueError, NotImplementedError) as error:  # empty or absolute patterns
        raise TrainingError(f"source {source.name}: {patterns}: {error}") from error
    if not paths:
        raise TrainingError(f"source {source.name}: no file in {data} matches {patterns}")
    return paths


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _lines(path: Path) -> Iterator[str]:
    try:
        with _open_text(path) as file:
            yield from file
    except (OSError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read {path}: {error}; fetch the file again") from error


def _text_documents(path: Path) -> Iterator[Document]:
    """Documents between the end lines; the last need not be closed."""
    lines: list[str] = []
    for line in _lines(path):
        if line.strip() == END:
            yield Document("".join(lines).strip("\n"), place=str(path))
            lines = []
        else:
            lines.append(line)
    yield Document("".join(lines).strip("\n"), place=str(path))


def _json_documents(path: Path) -> Iterator[Document]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield _json_document(line, f"{path}:{number}")


def _json_document(line: str, place: str) -> Document:
    try:
        values: Any = json.loads(line)
    except ValueError as error:
        raise TrainingError(f"{place} is no JSON object: {error}") from error
    if isinstance(values, dict) and isinstance(values.get("text"), str):
        return Document(values["text"], place=place)
    pair = (
        [values.get(name) for name in ("prompt", "completion")] if isinstance(values, dict) else []
    )
    if len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
        raise TrainingError(f"{place} needs `text`, or `prompt` and `completion`, as strings")
    return Document(pair[1], prompt=pair[0], place=place)


def _library_files(split: str) -> Iterator[Document]:
    """Sources of the standard library, in the order of a hash of their paths."""
    root = Path(sysconfig.get_path("stdlib"))
    names = (path.relative_to(root) for path in root.rglob("*.py"))
    kept = [name.as_posix() for name in names if not _TEST_FOLDERS & set(name.parts)]
    for name in sorted(kept, key=_path_hash):
        if is_held_out(name) == (split == "valid"):
            text = (root / name).read_text(encoding="utf-8", errors="ignore")
            yield Document(text.strip("\n"), place=name)


def _path_hash(name: str) -> float:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(name: str) -> bool:
    """Whether the library file of this relative path is kept from training."""
    return _path_hash(name) < HELD_OUT_SHARE


def _cut(documents: Iterator[Document], max_bytes: int) -> Iterator[Document]:
    """Non-empty documents until max_bytes are reached; a last one without a prompt is cut."""
    for document in documents:
        if max_bytes <= 0:
            return
        if document.text:
            whole = document.prompt is not None or len(document.text) <= max_bytes
            yield document if whole else Document(document.text[:max_bytes], place=document.place)
            max_bytes -= len(document.text) + len(document.prompt or "")
