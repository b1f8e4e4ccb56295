"""The draft vocabulary: the token ids that drafts are scored by, where that is not all of them.

A small file beside a model, made once from a corpus by `shortstack draft-vocab`. A token outside it
is never drafted; verification knows nothing of it, so it decides speed and never text.

The file is JSON: it needs no tensor library to be made or read, and a `*.safetensors` beside the
weights would be taken for weights. Knows no tensors, only ids.
"""

import hashlib
import json
import math
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.errors import BadModel
from shared.speculation.vocabulary import OFF

FILE_NAME = "draft_vocab.json"
FORMAT_VERSION = 1
# What the setting may say beside `off` and a path: the file in the model directory, if there.
AUTO = "auto"
SETTING = "SHORTSTACK_MODEL__DRAFT_VOCAB"
# With a single id there is no second best to be less sure of.
MIN_SIZE = 2


@dataclass(frozen=True, slots=True)
class DraftVocab:
    """Ids that can be drafted, and what they were chosen for.

    vocab_size: rows of the model's whole head.
    tokenizer_fingerprint: see the function of this name.
    coverage: share of the corpus's tokens that are among the ids, in [0, 1].
    corpus: names of the corpus's files.
    token_ids: ascending, each once, with the model's end-of-sequence ids.
    """

    vocab_size: int
    tokenizer_fingerprint: str
    coverage: float
    corpus: tuple[str, ...]
    token_ids: tuple[int, ...]

    def write(self, folder: Path) -> Path:
        """Write the file into a folder, whole or not at all; return its path.

        Raises:
            OSError: the folder cannot be written to.
        """
        path = folder / FILE_NAME
        unfinished = path.with_suffix(".unfinished")
        text = json.dumps({"format_version": FORMAT_VERSION} | asdict(self), ensure_ascii=False)
        unfinished.write_text(text + "\n", encoding="utf-8")
        os.replace(unfinished, path)
        return path


def tokenizer_fingerprint(model_dir: Path) -> str:
    """Return a hash of `tokenizer.json`: ids mean the same only under the same one.

    Empty where the directory has none. Weights are left out: models of one family may share a file.
    """
    file = model_dir / "tokenizer.json"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:32] if file.is_file() else ""


def find_draft_vocab(
    wish: str, model_dir: Path, vocab_size: int, eos_token_ids: Collection[int]
) -> DraftVocab | None:
    """Return the draft vocabulary that a setting asks for; None: drafts are scored by all ids.

    Args:
        wish: `auto` (the model directory's, if it has one), `off`, or the path of a file or of the
            folder that holds it.
        model_dir: the model's directory.
        vocab_size: rows of the model's head.
        eos_token_ids: ids that end its texts.

    Raises:
        BadModel: the file is missing, malformed, or was made for another model; says how to mend.
    """
    if wish == OFF:
        return None
    path = model_dir / FILE_NAME if wish == AUTO else Path(wish)
    if path.is_dir():
        path = path / FILE_NAME
    if wish == AUTO and not path.exists():
        return None
    try:
        found = parse_draft_vocab(path.read_text(encoding="utf-8"))
        _check_model(found, model_dir, vocab_size, eos_token_ids)
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise BadModel(
            f"draft vocabulary {path} {reason}; make it anew with `shortstack draft-vocab --model "
            f"{model_dir}`, or draft from the whole vocabulary with {SETTING}={OFF}"
        ) from None
    return found


def parse_draft_vocab(text: str) -> DraftVocab:
    """Read the file's text and check all that needs no model.

    Raises:
        ValueError: says what is wrong; the words continue "draft vocabulary PATH …".
    """
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"has format version {version!r}, this release reads {FORMAT_VERSION}")
    vocab = DraftVocab(
        vocab_size=_typed(fields, "vocab_size", int),
        tokenizer_fingerprint=_typed(fields, "tokenizer_fingerprint", str),
        coverage=float(_typed(fields, "coverage", int, float)),
        corpus=tuple(_typed(fields, "corpus", list)),
        token_ids=tuple(_typed(fields, "token_ids", list)),
    )
    _check_ids(vocab.token_ids, vocab.vocab_size)
    if not (math.isfinite(vocab.coverage) and 0 <= vocab.coverage <= 1):
        raise ValueError(f"has a coverage of {vocab.coverage}, which is no share")
    if not all(isinstance(name, str) for name in vocab.corpus):
        raise ValueError("names its corpus by something else than texts")
    return vocab


def _typed(fields: dict[str, Any], name: str, *types: type) -> Any:
    # bool is an int to Python, not to us.
    value = fields.get(name)
    if type(value) not in types:
        raise ValueError(f"has no sound `{name}`")
    return value


def _check_ids(ids: tuple[Any, ...], vocab_size: int) -> None:
    if any(type(token) is not int for token in ids):
        raise ValueError("has a token id that is no integer")
    if len(ids) < MIN_SIZE:
        raise ValueError(f"holds {len(ids)} token ids, too few to choose from")
    repeated = next((a for a, b in pairwise(ids) if a == b), None)
    if repeated is not None:
        raise ValueError(f"holds token id {repeated} twice")
    if any(a > b for a, b in pairwise(ids)):
        raise ValueError("has token ids that do not ascend")
    if ids[0] < 0 or ids[-1] >= vocab_size:
        raise ValueError(f"has token ids in [{ids[0]}, {ids[-1]}], outside [0, {vocab_size})")


def _check_model(
    vocab: DraftVocab, model_dir: Path, vocab_size: int, eos_token_ids: Collection[int]
) -> None:
    if vocab.vocab_size != vocab_size:
        raise ValueError(f"is for a vocabulary of {vocab.vocab_size}, the model has {vocab_size}")
    if vocab.tokenizer_fingerprint != tokenizer_fingerprint(model_dir):
        raise ValueError("was made with another tokenizer than the model's")
    missing = sorted(set(eos_token_ids) - set(vocab.token_ids))
    if missing:
        raise ValueError(f"lacks the model's end-of-sequence ids {missing}")
