"""API keys: secrets that callers carry, of which only hashes are kept.

A key is 256 random bits behind a fixed prefix, so a plain SHA-256 of it can neither be guessed nor
looked up; slow hashes are for what people choose (docs/adr/0014). To keep it so, only what looks
like a key that was made here is ever hashed and compared.
"""

import hashlib
import re
import secrets

PREFIX = "shortstack_"
HASH_PREFIX = "sha256:"
_NUM_BYTES = 32
_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


def make_key() -> str:
    """Return a new key; it is not kept anywhere."""
    return PREFIX + secrets.token_urlsafe(_NUM_BYTES)


def is_key(text: str) -> bool:
    """Say whether a text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def hash_key(key: str) -> str:
    """Return what is kept of a key."""
    assert is_key(key), "only made keys are hashed"
    return HASH_PREFIX + hashlib.sha256(key.encode("ascii")).hexdigest()
