"""Sources turned into rows: read, encoded once, kept in the run's directory.

Knows nothing of models.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.config import TextRun
from training.corpus import SPLITS, files_of, read_documents
from training.errors import TrainingError
from training.rows import Example, Mixture, Rows, TaskRows, TextRows, corpus_of
from training.rows_trainer import HeldOut
from training.sections import DataSection, Source
from training.tokenizer import encode, joined, load_tokenizer, train_tokenizer

SAMPLE_BYTES = 1_500_000
"""Of each source, a tokenizer in the making sees as much."""


@dataclass(frozen=True)
class Texts:
    """The rows of every source, by split and name."""

    train: Mapping[str, Rows]
    valid: Mapping[str, Rows]

    def mixture(self, data: DataSection, seed: int, num_steps: int, rows_per_step: int) -> Mixture:
        """The training rows of a whole run."""
        return Mixture(
            sources=self.train,
            shares=[source.share for source in data.sources],
            seed=seed,
            num_steps=num_steps,
            rows_per_step=rows_per_step,
            row_len=data.row_len,
            long_row_len=data.long_row_len,
            long_share=data.long_share,
        )

    def held_out(self, num_rows: int, row_len: int) -> dict[str, HeldOut]:
        """Rows to score the exits on."""
        return {
            name: HeldOut(rows.spread(num_rows, row_len), rows.is_task)
            for name, rows in self.valid.items()
        }


def tokenizer_of(config: TextRun, data: Path | None, out: Path, max_positions: int) -> Any:
    """The run's tokenizer; one in the making is made once and kept in OUT/tokenizer.

    Raises:
        TrainingError: it is missing, damaged, or the texts do not yield it.
    """
    if config.tokenizer.vocab_size is None:
        return load_tokenizer(config.tokenizer.path or str(config.model.path))
    folder = out / "tokenizer"
    if not folder.exists():
        samples = [text for source in config.data.sources for text in _sample(source, data)]
        made = train_tokenizer(samples, config.tokenizer.vocab_size, max_positions)
        partial = out / f"tokenizer.{os.getpid()}"
        made.save_pretrained(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process of the run was first, with the same tokenizer
            shutil.rmtree(partial)
    found = load_tokenizer(str(folder))
    if len(found) != config.tokenizer.vocab_size:
        raise TrainingError(
            f"{folder} has {len(found)} tokens, tokenizer.vocab_size asks for"
            f" {config.tokenizer.vocab_size}; remove it, or choose another --out"
        )
    return found


def _sample(source: Source, data: Path | None) -> list[str]:
    room, texts = SAMPLE_BYTES, []
    for document in read_documents(source, data, "train"):
        text = (document.prompt or "") + document.text
        texts.append(text[:room])
        room -= len(text)
        if room <= 0:
            break
    return texts


def read_texts(config: TextRun, data: Path | None, tokenizer: Any, cache: Path) -> Texts:
    """Read and encode every source, or take running text from the cache.

    Raises:
        TrainingError: texts are missing, damaged or empty, or examples do not fit a row.
    """
    found: dict[str, dict[str, Rows]] = {
        split: {
            source.name: _rows(source, data, split, tokenizer, config, cache)
            for source in config.data.sources
        }
        for split in SPLITS
    }
    return Texts(found["train"], found["valid"])


def _rows(
    source: Source, data: Path | None, split: str, tokenizer: Any, config: TextRun, cache: Path
) -> Rows:
    name, row_lens = f"{source.name} ({split})", row_lens_of(config.data, split)
    kept = cache / f"{source.name}.{split}.{_fingerprint(source, data, split, tokenizer)}.npy"
    if kept.exists():
        return _text_rows(name, np.load(kept), tokenizer, row_lens)
    documents = read_documents(source, data, split)
    prompts = [document.prompt for document in documents]
    if all(prompt is not None for prompt in prompts):
        return _task_rows(source, documents, tokenizer, row_lens)
    if any(prompt is not None for prompt in prompts):
        raise TrainingError(
            f"source {source.name} mixes lines with `text` and with `prompt`; make it two sources"
        )
    tokens = joined(tokenizer, [document.text for document in documents])
    cache.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}.npy")  # several processes may write the same
    np.save(partial, tokens)
    partial.replace(kept)
    return _text_rows(name, tokens, tokenizer, row_lens)


def row_lens_of(data: DataSection, split: str) -> list[int]:
    """Lengths of the rows of a split; held-out rows are never long."""
    long = [data.long_row_len] if data.long_row_len and split == "train" else []
    return [data.row_len, *long]


def _text_rows(name: str, tokens: Any, tokenizer: Any, row_lens: Sequence[int]) -> TextRows:
    rows = TextRows(name, corpus_of(tokens, tokenizer.eos_token_id))
    rows.check(row_lens)
    return rows


def _task_rows(source: Source, documents: Any, tokenizer: Any, row_lens: Sequence[int]) -> TaskRows:
    """Examples of prompt and completion; the end token belongs to the completion."""
    end = [tokenizer.eos_token_id]
    prompts = encode(tokenizer, [document.prompt for document in documents])
    completions = encode(tokenizer, [document.text for document in documents])
    examples = [
        Example(prompt, completion + end, document.place)
        for prompt, completion, document in zip(prompts, completions, documents, strict=True)
    ]
    rows = TaskRows(source.name, examples, tokenizer.eos_token_id)
    rows.check(row_lens)
    return rows


def _fingerprint(source: Source, data: Path | None, split: str, tokenizer: Any) -> str:
    """What the encoded text depends on, hashed; files count by name, size and time."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    stats = [(str(path), path.stat()) for path in files_of(source, data, split)]
    files = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    parts = (source.model_dump_json(), vocabulary, *files)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
