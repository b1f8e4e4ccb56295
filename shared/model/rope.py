"""Rotary position embedding as one complex product.

Rows of the query and key projections are permuted at load so that the two halves that a rotation
mixes become neighbours; a head is then H/2 complex numbers, and rotating it is one multiplication
by exp(i * position * frequency). Scores do not change: queries and keys are permuted alike.
Frequencies come from transformers, which knows every scaling variant (Llama 3, linear, YaRN, ...).
"""

import torch

from shared.errors import BadModel
from shared.model.config import ModelConfig


def rope_table(config: ModelConfig, device: torch.device) -> torch.Tensor:
    """Return the complex64 factors [max_context_len, 1, H/2] of every position.

    Raises:
        BadModel: the scaling variant is unknown, or depends on the length of the sequence.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    hf = config.hf_config
    parameters = getattr(hf, "rope_parameters", None) or {}
    kind = parameters.get("rope_type", "default")
    if kind in ("dynamic", "longrope"):
        raise BadModel(
            f"{config.path}/config.json: rope_type {kind!r} changes with the sequence's length, "
            "so cached keys would go stale; it is not supported"
        )
    if kind == "default":
        inverse, scale = _default_frequencies(config, parameters), 1.0
    elif kind in ROPE_INIT_FUNCTIONS:
        inverse, scale = ROPE_INIT_FUNCTIONS[kind](hf, torch.device("cpu"))
    else:
        raise BadModel(f"{config.path}/config.json: rope_type {kind!r} is not known")
    positions = torch.arange(config.max_context_len, dtype=torch.float32)
    angles = torch.outer(positions, inverse.float())
    return torch.polar(torch.full_like(angles, float(scale)), angles).unsqueeze(1).to(device)


def _default_frequencies(config: ModelConfig, parameters: dict[str, float]) -> torch.Tensor:
    theta = parameters.get("rope_theta") or 10_000.0
    exponents = torch.arange(0, config.head_size, 2, dtype=torch.int64).float() / config.head_size
    return 1.0 / (float(theta) ** exponents)


def interleave_halves(weight_OI: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder a projection's rows from (first half, second half) to neighbouring pairs.

    Works on a matrix [heads * H, I] and on a vector [heads * H].
    """
    tail = weight_OI.shape[1:]
    halves = weight_OI.reshape(num_heads, 2, -1, *tail)
    return halves.transpose(1, 2).reshape(weight_OI.shape)


def rotate(heads_RNH: torch.Tensor, factors_R1C: torch.Tensor) -> None:
    """Rotate packed heads in place; float32 runs in place, other types through a float32 copy."""
    pairs = heads_RNH.unflatten(-1, (-1, 2))
    if heads_RNH.dtype == torch.float32:
        torch.view_as_complex(pairs).mul_(factors_R1C)
        return
    rotated = torch.view_as_complex(pairs.float()).mul_(factors_R1C)
    pairs.copy_(torch.view_as_real(rotated))
