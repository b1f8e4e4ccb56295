"""Seeds of the choices of one request. Pure."""

import hashlib
import struct

NUM_SEED_BITS = 64


def seed_of_choice(seed: int, index: int) -> int:
    """Return the seed of a choice: the request's own for the first, a hash of both for others.

    A choice is so the same text whether one or many were asked for, and can be asked for alone.
    """
    if index == 0:
        return seed
    digest = hashlib.blake2b(struct.pack("<QQ", seed, index), digest_size=NUM_SEED_BITS // 8)
    return int.from_bytes(digest.digest(), "little")
