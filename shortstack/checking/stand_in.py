"""A stand-in tokenizer for model directories without one, so that ids can be checked all the same.

The gateway serves text and so insists on a tokenizer. A check of token ids needs none: it runs on a
folder of links to the model's files, with a tokenizer that knows a single word.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
}


@contextmanager
def servable(model_dir: Path) -> Iterator[Path]:
    """Return the directory itself, or for as long as the context lasts one with a tokenizer."""
    if (model_dir / "tokenizer.json").exists():
        yield model_dir
        return
    with TemporaryDirectory(prefix="shortstack-model-") as name:
        folder = Path(name) / model_dir.resolve().name
        folder.mkdir()
        for path in model_dir.iterdir():
            (folder / path.name).symlink_to(path.resolve())
        (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
        yield folder
