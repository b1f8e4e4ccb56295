"""Prompts of a measurement: JSON lines with `id`, `kind` and `prompt` (or `token_ids`).

Every peer gets the same token ids, so text is encoded here, once, with the model's own tokenizer.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shortstack.checking.prompts import PromptLine, read_prompts
from shortstack.errors import UsageError

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class BenchPrompt:
    """One prompt as ids; `kind` groups prompts in the report."""

    prompt_id: str
    kind: str
    token_ids: tuple[int, ...]


def read_bench_prompts(
    paths: Sequence[Path], encode: Encode, limit: int, max_len: int = 0
) -> list[BenchPrompt]:
    """Read the first `limit` prompts of each file, of each its first `max_len` tokens; 0: all.

    A line without `id` is named after its file and number, one without `kind` is of its file's.

    Raises:
        UsageError: a file or line cannot be read, or an id occurs twice.
    """
    prompts = [
        _prompt(line, path, encode, max_len)
        for path in paths
        for line in read_prompts(path)[: limit or None]
    ]
    ids = [prompt.prompt_id for prompt in prompts]
    if twice := sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        raise UsageError(f"prompt ids must differ; {', '.join(twice)} occurs twice")
    return prompts


def _prompt(line: PromptLine, path: Path, encode: Encode, max_len: int) -> BenchPrompt:
    fields = json.loads(path.read_text(encoding="utf-8").splitlines()[line.line_number - 1])
    token_ids = line.token_ids if line.text is None else tuple(encode(line.text))
    return BenchPrompt(
        str(fields.get("id", f"{path.stem}-{line.line_number}")),
        str(fields.get("kind", path.stem)),
        token_ids[: max_len or None],
    )


def tokenizer_of(model_dir: Path) -> Encode:
    """Return the encoding of a model directory's tokenizer.

    Raises:
        UsageError: the directory has none.
    """
    file = model_dir / "tokenizer.json"
    if not file.is_file():
        raise UsageError(f"{model_dir} has no tokenizer.json; give prompts as token_ids")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))

    def encode(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer.encode(text).ids
        return ids

    return encode
