"""/tokenize and /detokenize: text to ids as a request would be read, and back."""

import asyncio
from typing import Annotated, Any

from pydantic import Field, model_validator

from services.gateway.http_face.bodies import ChatTurnBody
from services.gateway.http_face.fields import Body, Ids, Name, Text, conflict
from services.gateway.http_face.reading import turns_of
from services.gateway.parts import GatewayParts
from services.gateway.prompt_ids import encode_prompt
from services.gateway.request import check_ids, check_model, check_turns


class TokenizeBody(Body):
    """Body of /tokenize: a text or the turns of a chat."""

    model: Name | None = None
    prompt: Text | None = None
    messages: Annotated[list[ChatTurnBody], Field(fail_fast=True, min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_one_input(self) -> "TokenizeBody":
        if (self.prompt is None) == (self.messages is None):
            raise conflict("prompt", "one of prompt and messages must be sent")
        return self


class DetokenizeBody(Body):
    """Body of /detokenize."""

    model: Name | None = None
    tokens: Ids


class TokenEndpoints:
    """The tokenizer of the served model."""

    def __init__(self, parts: GatewayParts) -> None:
        """Take what knows the tokenizer."""
        self._parts = parts

    async def tokenize(self, body: TokenizeBody) -> dict[str, Any]:
        """Return the ids that a prompt or a chat is made of.

        Raises:
            ModelNotFound: another model is asked for.
            Unsupported, InvalidRequest: the model has no chat template, or refuses the turns.
        """
        limits = self._parts.current_limits()
        check_model(body.model or "", limits)
        prompt = body.prompt if body.messages is None else check_turns(turns_of(body.messages))
        assert prompt is not None, "the body has one of both"
        ids = await encode_prompt(self._parts.tools.tokenizer, prompt)
        return {
            "tokens": ids,
            "count": len(ids),
            "max_model_len": limits.model.max_context_len,
        }

    async def detokenize(self, body: DetokenizeBody) -> dict[str, Any]:
        """Return the text of ids, special ones left out.

        Raises:
            ModelNotFound: another model is asked for.
            InvalidRequest: an id is not in the vocabulary.
        """
        limits = self._parts.current_limits()
        check_model(body.model or "", limits)
        ids = check_ids(body.tokens, limits.model, "tokens")
        return {"prompt": await asyncio.to_thread(self._parts.tools.tokenizer.decode, ids)}
