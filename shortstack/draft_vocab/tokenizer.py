"""The tokenizer of a model, for counting: texts to ids, and which ids are special."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from shortstack.errors import UsageError


class CountingTokenizer:
    """Turns texts into ids, without the special tokens that requests begin or end with.

    Raises:
        UsageError: the directory has no tokenizer, or one that cannot be read.
    """

    def __init__(self, model_dir: Path) -> None:
        path = model_dir / "tokenizer.json"
        if not path.is_file():
            raise UsageError(f"{model_dir} has no tokenizer.json: copy it from where the model is")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more precise
            raise UsageError(f"{path} cannot be read: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(id_ for id_, token in added.items() if token.special)

    def encode(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the ids of every text."""
        for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
            yield encoding.ids
