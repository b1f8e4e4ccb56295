"""Random acceptance heads for tiny models; their chances mean nothing."""

from collections.abc import Sequence

import torch

from shared.model.acceptance_heads import AcceptanceHead, AcceptanceHeads, num_features
from shared.model.config import ModelConfig
from shared.model.weights import weights_fingerprint

WIDTH = 3


def make_heads(
    config: ModelConfig, exits: Sequence[int] = (1, 3), seed: int = 5
) -> AcceptanceHeads:
    """Return heads for a model's weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((WIDTH, num_features(config.hidden_size)), (WIDTH,), (WIDTH,), (), ())
    by_exit = {
        exit_layer: AcceptanceHead(*(torch.randn(shape, generator=generator) for shape in shapes))
        for exit_layer in exits
    }
    return AcceptanceHeads(weights_fingerprint(config.path), by_exit)
