"""Draft adapters for tiny models: good ones by chance, bad ones on purpose.

With scale 0 an adapter's attention adds nothing and its norm is the model's own, so its draft is
that of the raw exit; the stronger the scale, the worse.
"""

from collections.abc import Sequence

import torch

from shared.model.config import ModelConfig
from shared.model.draft_adapter_weights import DraftAdapterWeights
from shared.model.weights import Weights


def make_draft_adapters(
    config: ModelConfig, exits: Sequence[int] = (2,), scale: float = 0.3, seed: int = 6
) -> tuple[DraftAdapterWeights, ...]:
    """Return an adapter for each exit."""
    return tuple(make_draft_adapter(config, each, scale, seed + each) for each in exits)


def make_draft_adapter(
    config: ModelConfig, exit_layer: int, scale: float = 0.3, seed: int = 6
) -> DraftAdapterWeights:
    """Return one adapter for a model's weights."""
    layout = config.adapter_host.layout
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: 0.14 * torch.randn(*shape, generator=generator)
        for name, shape in layout.shapes().items()
    }
    with Weights(config.path) as weights:
        norm_D = weights.read("model.norm.weight", (layout.hidden_size,), torch.float32)
    tensors["norm_in"] = 1.0 + tensors["norm_in"]
    tensors["norm_out"] = norm_D.clone()
    tensors["wo"] *= scale / 0.14
    digest = f"random-{exit_layer}-{scale}-{seed}"
    return DraftAdapterWeights(exit_layer, layout, config.rms_eps, tensors, digest)
