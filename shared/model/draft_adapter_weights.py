"""The weights of a draft adapter as they are stored, and their sizes. See `draft_adapters`."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HeadLayout:
    """The sizes that an adapter shares with its model."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of an adapter, by its name."""
        hidden = self.hidden_size
        queries, keys = self.num_heads * self.head_size, self.num_kv_heads * self.head_size
        return {
            "norm_in": (hidden,),
            "wq": (queries, hidden),
            "wk": (keys, hidden),
            "wv": (keys, hidden),
            "wo": (hidden, queries),
            "norm_out": (hidden,),
        }


@dataclass(frozen=True)
class DraftAdapterWeights:
    """One adapter as it is stored: projections in the order of Hugging Face checkpoints.

    exit_layer: l, the layers that run before it.
    tensors: by the names of `HeadLayout.shapes`.
    digest: hash of its files; workers of a cell must agree on it.
    """

    exit_layer: int
    layout: HeadLayout
    rms_eps: float
    tensors: dict[str, torch.Tensor]
    digest: str = ""

    @property
    def num_parameters(self) -> int:
        """Weights of the adapter; the head is the model's."""
        return sum(tensor.numel() for tensor in self.tensors.values())
