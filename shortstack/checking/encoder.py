"""The tokenizer of transformers, the judge of the gateway's. Imported late, as it is heavy."""

from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from shortstack.checking.prompts import PromptLine


class Encoder:
    """Turns prompts into ids; the tokenizer's files are read when the first text is met."""

    def __init__(self, model_dir: Path) -> None:
        self._model_dir = model_dir

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self._model_dir, local_files_only=True)

    def encode(self, line: PromptLine) -> tuple[int, ...]:
        """Return the ids of a prompt; ids are used as they stand."""
        if line.text is None:
            return line.token_ids
        return tuple(self._tokenizer(line.text)["input_ids"])
