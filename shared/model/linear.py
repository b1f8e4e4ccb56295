"""Matrix products for few rows: the place where decoding spends its time.

On a CPU a decode step reads every weight once, so what counts is bytes per second at 1 to 8 rows.
Two layouts were measured (`bench/linear.py`):

* matrices beyond the cache: oneDNN with prepacked weights stays flat from 1 to 8 rows, where MKL
  takes twice as long from 2 rows on;
* small matrices: MKL over a transposed copy is flat too, and oneDNN pays 30 us more per call.

On a GPU it is the device's own product. bfloat16 on a CPU is always packed.
"""

from typing import Protocol

import torch
import torch.nn.functional as F

# Where the two layouts cross on the machines measured; about what fits a core's second-level cache.
SMALL_MATRIX_BYTES = 2_621_440
# Rows that packing is tuned for; the layout serves any number.
PACK_ROWS = 4


class Linear(Protocol):
    """y_RO = x_RI W^T + b, optionally added to a residual of the same shape."""

    def __call__(self, x_RI: torch.Tensor) -> torch.Tensor:
        """Return the product."""
        ...

    def add(self, x_RI: torch.Tensor, residual_RO: torch.Tensor) -> torch.Tensor:
        """Return residual + product."""
        ...


def make_linear(weight_OI: torch.Tensor, bias_O: torch.Tensor | None = None) -> Linear:
    """Choose the layout for a matrix; the given tensor need not be kept."""
    if weight_OI.device.type != "cpu":
        return DeviceLinear(weight_OI, bias_O)
    is_small = weight_OI.numel() * weight_OI.element_size() <= SMALL_MATRIX_BYTES
    if weight_OI.dtype == torch.float32 and is_small:
        return TransposedLinear(weight_OI, bias_O)
    if not torch.backends.mkldnn.is_available():
        return DeviceLinear(weight_OI, bias_O)
    return PackedLinear(weight_OI, bias_O)


class DeviceLinear:
    """The device's own product on the weight as it is stored."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        self._weight_OI = weight_OI.contiguous()
        self._bias_O = bias_O

    def __call__(self, x_RI: torch.Tensor) -> torch.Tensor:
        return F.linear(x_RI, self._weight_OI, self._bias_O)

    def add(self, x_RI: torch.Tensor, residual_RO: torch.Tensor) -> torch.Tensor:
        return residual_RO + F.linear(x_RI, self._weight_OI, self._bias_O)


class TransposedLinear:
    """MKL over a transposed copy, for matrices that fit the cache."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        self._weight_IO = weight_OI.t().contiguous()
        self._bias_O = bias_O

    def __call__(self, x_RI: torch.Tensor) -> torch.Tensor:
        if self._bias_O is None:
            return torch.mm(x_RI, self._weight_IO)
        return torch.addmm(self._bias_O, x_RI, self._weight_IO)

    def add(self, x_RI: torch.Tensor, residual_RO: torch.Tensor) -> torch.Tensor:
        out_RO = torch.addmm(residual_RO, x_RI, self._weight_IO)
        return out_RO if self._bias_O is None else out_RO.add_(self._bias_O)


class PackedLinear:
    """oneDNN over a prepacked copy, for matrices beyond the cache."""

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor | None) -> None:
        self._bias_O = bias_O
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), PACK_ROWS)
        self._run = torch.ops.mkldnn._linear_pointwise.default
        self._run_binary = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x_RI: torch.Tensor) -> torch.Tensor:
        out_RO: torch.Tensor = self._run(x_RI, self._packed, self._bias_O, "none", [], "")
        return out_RO

    def add(self, x_RI: torch.Tensor, residual_RO: torch.Tensor) -> torch.Tensor:
        out_RO: torch.Tensor = self._run_binary(
            x_RI, residual_RO, self._packed, self._bias_O, "add"
        )
        return out_RO
