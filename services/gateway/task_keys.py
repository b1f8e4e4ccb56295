"""Task keys: which requests of a tenant are of one kind, for what cells learn of drafting them.

A key is the client's own label, else a keyed hash of the chat's system prompt: the prompt itself
leaves the gateway for no store, and without the secret nobody can try prompts against a key.
"""

import hmac
from dataclasses import dataclass
from pathlib import Path

from services.gateway.chat import ChatTurn
from services.gateway.request import TextRequest

NUM_KEY_CHARS = 16


@dataclass(frozen=True, slots=True)
class TaskKeys:
    """Makes the keys. All gateways need one secret; without one, only labels make keys."""

    secret: bytes = b""

    def key_of(self, request: TextRequest) -> str:
        """Return the key of a request; empty where its kind is unknown."""
        if request.task or not self.secret:
            return request.task
        turns = [part for part in request.prompt if isinstance(part, ChatTurn)]
        system_prompts = [turn.content for turn in turns if turn.role == "system"]
        if not system_prompts:
            return ""
        # Equal prompts of two tenants get different keys.
        text = "\0".join([request.tenant, *system_prompts])
        return hmac.digest(self.secret, text.encode(), "sha256").hex()[:NUM_KEY_CHARS]


def read_secret(path: Path | None) -> bytes:
    """Return the secret in a file, without the blanks around it; none without a file."""
    return path.read_bytes().strip() if path else b""
