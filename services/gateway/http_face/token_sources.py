"""Where the tokens of a round came from, as chunks of a stream tell it to those who ask."""

from dataclasses import asdict
from typing import Any

from services.gateway.completion import Tokens
from shared.rpc import shortstack_pb2 as pb

SOURCES = {
    number: name.removeprefix("TOKEN_SOURCE_").lower() for name, number in pb.TokenSource.items()
}


def sources_of(tokens: Tokens, session_id: str) -> dict[str, Any]:
    """Return a round's tokens with their texts and sources, and what became of its draft.

    The texts, joined, are the delta of the chunk. One is empty where a token's text is not certain
    yet: it then comes with the token that makes it so.

    Args:
        tokens: with the text of each.
        session_id: of the choice, by which its timeline is found.
    """
    rows = zip(tokens.token_ids, tokens.token_texts, tokens.sources, strict=True)
    return {
        "session_id": session_id,
        "tokens": [
            {"id": token_id, "text": text, "source": SOURCES[source]}
            for token_id, text, source in rows
        ],
        "draft": None if tokens.draft is None else asdict(tokens.draft),
    }
