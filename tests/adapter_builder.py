"""Random exit adapters for tiny models: bad drafts on purpose, where not zero."""

from collections.abc import Sequence

import torch

from shared.model.config import ModelConfig
from shared.model.exit_adapters import ExitAdapter, ExitAdapters
from shared.model.weights import weights_fingerprint

RANK = 3


def make_adapters(
    config: ModelConfig, exits: Sequence[int] = (1, 3), scale: float = 0.5, seed: int = 5
) -> ExitAdapters:
    """Return adapters for a model's weights; with scale 0 they are identities."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (RANK, config.hidden_size)
    by_exit = {
        exit_layer: ExitAdapter(
            torch.randn(*sizes, generator=generator),
            scale * torch.randn(*reversed(sizes), generator=generator),
        )
        for exit_layer in exits
    }
    return ExitAdapters(weights_fingerprint(config.path), by_exit)
