"""The tokenizer of the served model: text to ids and back, with what its configuration says.

Reads the files of a Hugging Face directory: `tokenizer.json`, and where present
`tokenizer_config.json` and `chat_template.jinja`; vocabulary and context come from `config.json`.
Knows neither torch nor `transformers`, nor requests, nor which ids end a sequence.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.gateway.chat import ChatTemplate, ChatTurn
from services.gateway.detokenizer import find_byte_ids
from services.gateway.token_bytes import TokenBytes
from shared.errors import BadModel, Unsupported

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What ids and lengths a model takes, and which ids end a sequence as far as it is known."""

    vocab_size: int
    max_context_len: int
    eos_token_ids: frozenset[int] = frozenset()


class ModelTokenizer:
    """Text to ids and back, as the model was trained."""

    def __init__(self, tokenizer: Tokenizer, config: dict[str, Any], template: str = "") -> None:
        """Take a tokenizer, the contents of its configuration, and a template that overrides it."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.byte_ids = find_byte_ids(tokenizer.get_vocab())
        self.token_bytes = TokenBytes(tokenizer, self.byte_ids)
        self.special_ids = self.token_bytes.special_ids
        special_tokens = _special_tokens(config)
        self._bos_id = tokenizer.token_to_id(special_tokens.get("bos_token", ""))
        self._has_bos: bool | None = config.get("add_bos_token")
        source = template or _template_of(config)
        self._template = ChatTemplate(source, special_tokens) if source else None

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a prompt, the beginning-of-sequence id where the model wants one."""
        ids = self._tokenizer.encode(text, add_special_tokens=self._has_bos is not False).ids
        if self._has_bos and self._bos_id is not None and ids[:1] != [self._bos_id]:
            ids = [self._bos_id, *ids]
        return tuple(ids)

    def encode_chat(self, turns: Sequence[ChatTurn]) -> tuple[int, ...]:
        """Return the ids of a chat; the template itself writes the special tokens.

        Raises:
            Unsupported: the model has no chat template.
            InvalidRequest: its template refuses these turns.
        """
        if self._template is None:
            raise Unsupported("the model has no chat template; send a prompt", field="chat")
        text = self._template.render(turns)
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special ones left out."""
        return str(self._tokenizer.decode(ids))


def load_tokenizer(directory: Path) -> ModelTokenizer:
    """Read the tokenizer of a model directory.

    Raises:
        BadModel: a file is missing or malformed.
    """
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise BadModel(f"{path} is missing: the gateway needs it to read and write text")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises nothing more precise.
        raise BadModel(f"{path}: {error}") from None
    template_path = directory / "chat_template.jinja"
    template = template_path.read_text("utf-8") if template_path.is_file() else ""
    return ModelTokenizer(tokenizer, _read_json(directory / "tokenizer_config.json"), template)


def load_limits(directory: Path) -> ModelLimits:
    """Read vocabulary and context of a model directory.

    Raises:
        BadModel: `config.json` is missing, malformed or does not say.
    """
    path = directory / "config.json"
    config = _read_json(path)
    config = config.get("text_config", config)
    try:
        return ModelLimits(int(config["vocab_size"]), int(config["max_position_embeddings"]))
    except KeyError as error:
        raise BadModel(f"{path} is missing or does not hold {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadModel(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise BadModel(f"{path} holds no JSON object")
    return values


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """Return name -> text; a token is written as a string or as an object with `content`."""
    found = {}
    for name in _SPECIAL_TOKENS:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[name] = text
    return found


def _template_of(config: dict[str, Any]) -> str:
    """Return the template; where there are several by name, the one called `default`."""
    template = config.get("chat_template") or ""
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default", "")
    return str(template)
