"""`shortstack draft-vocab`: choose the tokens that drafts are scored by, from a corpus.

    shortstack draft-vocab --model DIR --corpus FILE... --size N

Counts the tokens of the corpus under the model's tokenizer, keeps the N most frequent and all
special ones, and writes them beside the model; workers that start on it from then on draft from
them. The text that is served cannot change, as verification sees the whole vocabulary.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from shared.speculation.draft_vocab import DraftVocab, tokenizer_fingerprint
from shortstack import options
from shortstack.checkpoint import require_model_dir
from shortstack.draft_vocab.corpus import read_corpus, require_corpus
from shortstack.draft_vocab.counting import TokenCounts
from shortstack.draft_vocab.prediction import ACCEPTANCE, LEAST_HEAD_TO_LAYER, WeightSizes
from shortstack.errors import CommandError, UsageError

if TYPE_CHECKING:
    from shared.model.config import ModelConfig
    from shortstack.draft_vocab.tokenizer import CountingTokenizer

MEGABYTE = 1e6


def command(
    corpus: Annotated[
        list[Path],
        typer.Option(
            help="Text, or *.jsonl with `text` or `prompt`, plain or .xz; more may follow."
        ),
    ],
    size: Annotated[int, typer.Option(min=2, help="Tokens to keep, the special ones included.")],
    more: Annotated[list[Path] | None, typer.Argument(hidden=True, metavar="FILE")] = None,
    model: options.Model = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: the model directory.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Bytes are told for this type.")] = "float32",
) -> None:
    """Choose the tokens that drafts are scored by, from a corpus."""
    from shared.model.config import read_config
    from shortstack.draft_vocab.tokenizer import CountingTokenizer

    model_dir = require_model_dir(model)
    files = [*corpus, *(more or [])]
    num_bytes = require_corpus(files)
    folder = require_writable(model_dir if out is None else out)
    tokenizer = CountingTokenizer(model_dir)
    config = read_config(model_dir, dtype)
    special_ids = {*config.eos_token_ids, *tokenizer.special_ids} & {*range(config.vocab_size)}
    require_size(size, len(special_ids), config.vocab_size)
    counts = TokenCounts(config.vocab_size, special_ids)
    count_tokens(counts, files, num_bytes, tokenizer)
    counts.require_sound()
    vocab = choose_vocab(counts, size, config, files)
    path = write(vocab, folder)
    show(vocab, counts, len(special_ids), weight_sizes(config))
    print(f"{size} of {config.vocab_size} tokens, {len(special_ids)} of them special: {path}")
    if folder.resolve() != model_dir.resolve():
        print(f"use it with: shortstack up --draft-vocab {path}")


def require_writable(folder: Path) -> Path:
    """Return a folder that a file can be written to.

    Raises:
        UsageError: it is missing or read-only.
    """
    if not folder.is_dir():
        raise UsageError(f"--out {folder} is no folder; make it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write to {folder}; name another folder with --out")
    return folder


def require_size(size: int, num_special: int, vocab_size: int) -> None:
    """Refuse a size that leaves nothing to choose.

    Raises:
        UsageError: there is no room behind the special tokens, or every token would be kept.
    """
    if size <= num_special:
        raise UsageError(
            f"--size {size} leaves no room behind {num_special} special tokens; "
            f"use {num_special + 1} or more"
        )
    if size >= vocab_size:
        raise UsageError(f"--size {size} keeps all {vocab_size} tokens; use fewer")


def count_tokens(
    counts: TokenCounts,
    files: list[Path],
    num_bytes: int,
    tokenizer: "CountingTokenizer",
) -> None:
    """Count the corpus, with a bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("counting"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("counting", total=num_bytes)
        for batch in read_corpus(files):
            for ids in tokenizer.encode(batch.texts):
                counts.add(ids)
            progress.update(bar, completed=batch.num_bytes_read)


def choose_vocab(
    counts: TokenCounts, size: int, config: "ModelConfig", files: list[Path]
) -> DraftVocab:
    """Return the most frequent tokens, with all that a worker checks them by."""
    token_ids = counts.most_frequent(size)
    return DraftVocab(
        vocab_size=config.vocab_size,
        tokenizer_fingerprint=tokenizer_fingerprint(config.path),
        coverage=round(counts.coverage(token_ids), 6),
        corpus=tuple(path.name for path in files),
        token_ids=token_ids,
    )


def write(vocab: DraftVocab, folder: Path) -> Path:
    """Write the file, and return its path.

    Raises:
        CommandError: the folder or its disk refused.
    """
    try:
        return vocab.write(folder)
    except OSError as error:
        raise CommandError(
            f"cannot write to {folder}: {error.strerror}; name another folder with --out"
        ) from None


def weight_sizes(config: "ModelConfig") -> WeightSizes:
    """Return what decoding with a model reads, biases and norms left out."""
    attention = 2 * config.hidden_size * config.head_size * (config.num_heads + config.num_kv_heads)
    return WeightSizes(
        num_layers=config.num_layers,
        num_layer_params=attention + 3 * config.hidden_size * config.intermediate_size,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        bytes_per_param=config.dtype.itemsize,
    )


def show(vocab: DraftVocab, counts: TokenCounts, num_special: int, sizes: WeightSizes) -> None:
    """Print coverage and predicted cost at the size chosen and at some beside it."""
    chosen = len(vocab.token_ids)
    table = Table("tokens", "coverage", "head MB", "draft step MB", "predicted speed-up")
    for size in sizes_beside(chosen, num_special, vocab.vocab_size):
        coverage = counts.coverage(counts.most_frequent(size))
        table.add_row(
            f"{size}{' <' * (size == chosen)}",
            f"{coverage:.4f}",
            f"{sizes.head_bytes(size) / MEGABYTE:.1f}",
            f"{sizes.draft_step_bytes(size) / MEGABYTE:.1f}",
            f"{sizes.predicted_speedup(size, coverage):.2f}",
        )
    Console().print(table)
    print(
        f"{counts.num_tokens} tokens counted. Bytes are read by every draft step; speed-up by bytes"
        f" alone, at exit {sizes.exit_layer}, acceptance {ACCEPTANCE:g} x coverage."
    )
    before, after = sizes.head_to_layer(vocab.vocab_size), sizes.head_to_layer(chosen)
    print(f"head / layer parameters: {before:.2f} -> {after:.2f}")
    if before <= LEAST_HEAD_TO_LAYER:
        print(f"At {LEAST_HEAD_TO_LAYER:g} or less a draft vocabulary gains little.")


def sizes_beside(chosen: int, num_special: int, vocab_size: int) -> list[int]:
    """Return sizes to show: a quarter, a half, the chosen one, twice and four times, all."""
    beside = (chosen // 4, chosen // 2, chosen, 2 * chosen, 4 * chosen)
    return [*(size for size in beside if num_special < size < vocab_size), vocab_size]
