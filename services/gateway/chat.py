"""Chat templates: turns of a chat to the text that the model was trained on.

Templates come with models and are Jinja, rendered here as `transformers` renders them (same
environment, same names), but without it. They are other people's programs: the sandbox keeps them
from reaching anything but the turns. Knows nothing of ids.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import BadModel, InvalidRequest

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One turn of a chat."""

    role: str
    content: str


class ChatTemplate:
    """One model's template with its special tokens."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile a template.

        Args:
            source: Jinja.
            special_tokens: `bos_token` and the like, as the template may name them.

        Raises:
            BadModel: the template is malformed.
        """
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise BadModel(f"the chat template cannot be compiled: {error}") from None
        self._special_tokens = dict(special_tokens)

    def render(self, turns: Sequence[ChatTurn]) -> str:
        """Return the text of a chat, up to where the assistant's next turn begins.

        Raises:
            InvalidRequest: the template refuses these turns.
        """
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True,
                **self._special_tokens,
            )  # fmt: skip
        except jinja2.TemplateError as error:
            raise InvalidRequest(
                f"chat: the model's template says: {error}", field="chat"
            ) from None


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; here it only shows its body."""

    tags = {"generation"}  # noqa: RUF012 (the library declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
