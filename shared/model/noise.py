"""The noise that draft and target share: Gumbel, a pure function of seed, position and token id.

An integer hash makes it, so that whoever chooses a token meets the same noise, whatever the worker,
batch or method (drafter-invariant coupling: Daliri et al. 2024, arXiv:2408.07978).
"""

from collections.abc import Sequence

import torch

MASK_32 = 0xFFFFFFFF
MASK_64 = 0xFFFFFFFFFFFFFFFF


def gumbel(
    seed: int, positions: Sequence[int], vocab_size: int, device: torch.device
) -> torch.Tensor:
    """Return standard Gumbel noise [len(positions), vocab_size], float32.

    A 64-bit key of (seed, position) is mixed on the host; two rounds of murmur3's 32-bit finaliser
    over (token id, key) give 32 uniform bits, in integer arithmetic that is bit-equal everywhere.
    The two logarithms run in float64 and are rounded to float32, so that devices agree.
    """
    keys = [mix_key(seed, position) for position in positions]
    return noise_of(keys, torch.arange(vocab_size, device=device))


def noise_of(keys: Sequence[int], ids_V: torch.Tensor) -> torch.Tensor:
    """Return the noise of these token ids under each 64-bit key, [len(keys), V]."""
    device = ids_V.device
    low = torch.tensor([[key & MASK_32] for key in keys], device=device)
    high = torch.tensor([[key >> 32] for key in keys], device=device)
    bits = _mix32(_mix32(ids_V ^ low).bitwise_xor_(high))
    uniform = bits.double().add_(0.5).mul_(2.0**-32)
    return uniform.log_().neg_().log_().neg_().float()


def mix_key(seed: int, position: int) -> int:
    """Mix seed and position to 64 bits (the finaliser of splitmix64, twice)."""
    key = _mix64((seed + 0x9E3779B97F4A7C15) & MASK_64)
    return _mix64((key ^ (position * 0xBF58476D1CE4E5B9)) & MASK_64)


def _mix64(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK_64
    return value ^ (value >> 31)


def _mix32(value: torch.Tensor) -> torch.Tensor:
    """Mix 32-bit values held in int64 (murmur3's finaliser), in place."""
    value.bitwise_xor_(value >> 16).mul_(0x85EBCA6B).bitwise_and_(MASK_32)
    value.bitwise_xor_(value >> 13).mul_(0xC2B2AE35).bitwise_and_(MASK_32)
    return value.bitwise_xor_(value >> 16)
