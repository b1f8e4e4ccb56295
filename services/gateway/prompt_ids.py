"""From a prompt of any kind to its ids, without keeping the event loop from its streams."""

import asyncio

from services.gateway.chat import ChatTurn
from services.gateway.request import Prompt
from services.gateway.tokenizer import ModelTokenizer

# Longer prompts are tokenized off the event loop, so that streams keep their pace.
MAX_INLINE_CHARS = 8192


async def encode_prompt(tokenizer: ModelTokenizer, prompt: Prompt) -> tuple[int, ...]:
    """Return the ids of a prompt.

    Raises:
        Unsupported: a chat, and the model has no chat template.
        InvalidRequest: the template refuses the turns.
    """
    if isinstance(prompt, str):
        if len(prompt) <= MAX_INLINE_CHARS:
            return tokenizer.encode(prompt)
        return await asyncio.to_thread(tokenizer.encode, prompt)
    turns = tuple(part for part in prompt if isinstance(part, ChatTurn))
    if turns:
        return await asyncio.to_thread(tokenizer.encode_chat, turns)
    return tuple(part for part in prompt if isinstance(part, int))
