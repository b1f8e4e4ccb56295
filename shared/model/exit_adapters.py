"""Exit adapters: what drafts read an exit through, where the model itself was left as it is.

    x'_E = x_E + up_E (down_E x_E)      then the model's own final norm and head

One low-rank map per exit: a tuned lens (Belrose et al. 2023, arXiv:2303.08112) of low rank.
Verification takes over x_E and knows nothing of x'_E, so adapters decide speed and never text.
Knows no files. Shapes: R rows, D hidden, M rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch


@dataclass(frozen=True)
class ExitAdapter:
    """The map of one exit: down [M, D], up [D, M], of one element type."""

    down_MD: torch.Tensor
    up_DM: torch.Tensor

    def __call__(self, x_RD: torch.Tensor) -> torch.Tensor:
        """Return x' [R, D]; x is left as it is. With `up` zero x' equals x bit for bit."""
        return torch.addmm(x_RD, x_RD @ self.down_MD.t(), self.up_DM.t())

    def to(self, device: torch.device, dtype: torch.dtype) -> "ExitAdapter":
        """Return the adapter where it is to run."""
        return ExitAdapter(self.down_MD.to(device, dtype), self.up_DM.to(device, dtype))


@dataclass(frozen=True)
class ExitAdapters:
    """Adapters by exit layer E, all of one rank, and the weights that they were trained for.

    weights_fingerprint: see the function of this name.
    """

    weights_fingerprint: str
    by_exit: Mapping[int, ExitAdapter]

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Exits that have an adapter, ascending."""
        return tuple(sorted(self.by_exit))

    @property
    def rank(self) -> int:
        """M."""
        return next(iter(self.by_exit.values())).down_MD.shape[0]

    @property
    def hidden_size(self) -> int:
        """D."""
        return next(iter(self.by_exit.values())).down_MD.shape[1]

    def to(self, device: torch.device, dtype: torch.dtype) -> "ExitAdapters":
        """Return the adapters where they are to run."""
        moved = {exit_layer: one.to(device, dtype) for exit_layer, one in self.by_exit.items()}
        return ExitAdapters(self.weights_fingerprint, moved)

    def apply(self, x_RD: torch.Tensor, exit_layers: Sequence[int]) -> torch.Tensor:
        """Return x' [R, D] of rows at their exits; rows of an exit without adapter as they are.

        Neighbours at the same exit are mapped together: rows sorted by exit need one call per exit.
        """
        if not exit_layers:
            return x_RD
        parts: list[torch.Tensor] = []
        start = 0
        for exit_layer, alike in groupby(exit_layers):
            end = start + len(list(alike))
            adapter = self.by_exit.get(exit_layer)
            parts.append(x_RD[start:end] if adapter is None else adapter(x_RD[start:end]))
            start = end
        return parts[0] if len(parts) == 1 else torch.cat(parts)
