"""Matrix products for few rows: the place where decoding spends its time.

On a CPU a decode step reads every weight once, so what counts is bytes per second at 1 to 8 rows.
Two layouts were measured (`bench/linear.py`):

* matrices beyond the cache: oneDNN with prepacked weights stays flat from 1 to 8 rows, where MKL
  takes twice as long from 2 rows on;
* small matrices: MKL over a transposed copy is flat too, and oneDNN pays 30 us more per call.

The same layouts serve many rows. Packed matrices reach 200 GFLOP/s at 64 rows and 230 to 255 at 128
to 512 (2304 x 768, two cores; MKL 140 and 190 to 235), whatever number of rows they were packed
for. Small ones are 10 to 25 % behind the better layout from 24 rows on; a second copy of them would
have saved some 5 % of a pass of 32 sessions, and was left out.

oneDNN makes code for every number of rows that it meets and keeps it for good: 2.5 MB each for the
four shapes of a 126M model, 1.3 GB once prompts of all lengths have been through. So packed
products run at few numbers of rows only: from 33 rows on they are filled up with rows that nobody
reads, 4 % of them in the mean.

On a GPU it is the device's own product. bfloat16 on a CPU is always packed.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F

# Where the two layouts cross on the machines measured; about what fits a core's second-level cache.
SMALL_MATRIX_BYTES = 2_621_440
# Rows that packing is tuned for; the layout serves any number.
PACK_ROWS = 4
# Up to so many rows each number has code of its own; beyond, multiples of a step.
NUM_EXACT_ROWS, NUM_NEAR_ROWS = 32, 128
NEAR_STEP, FAR_STEP = 8, 32
INT8_MAX = 127
UINT8_ZERO = 128


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


def num_rows_run(num_rows: int) -> int:
    """Return at how many rows a packed product of so many is run: one of few numbers, no less."""
    if num_rows <= NUM_EXACT_ROWS:
        return num_rows
    step = NEAR_STEP if num_rows <= NUM_NEAR_ROWS else FAR_STEP
    return -(-num_rows // step) * step


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
        out_RO: torch.Tensor = self._run(_filled(x_RI), self._packed, self._bias_O, "none", [], "")
        return out_RO[: x_RI.shape[0]]

    def add(self, x_RI: torch.Tensor, residual_RO: torch.Tensor) -> torch.Tensor:
        out_RO: torch.Tensor = self._run_binary(
            _filled(x_RI), _filled(residual_RO), self._packed, self._bias_O, "add"
        )
        return out_RO[: x_RI.shape[0]]


def _filled(x_RI: torch.Tensor) -> torch.Tensor:
    """Return the rows, filled up with rows of zeros to a number that products are run at."""
    num_more = num_rows_run(x_RI.shape[0]) - x_RI.shape[0]
    return F.pad(x_RI, (0, 0, 0, num_more)) if num_more else x_RI


class Int8Linear:
    """oneDNN over int8 weights (one scale per output) and uint8 activations (one scale per row).

    A quarter of the bytes, within about 1 % of the product: good enough to propose tokens, never
    used for what is verified or kept. No bias, no residual.
    """

    def __init__(self, weight_OI: torch.Tensor) -> None:
        wide_OI = weight_OI.float()
        self._scale_O = wide_OI.abs().amax(1).clamp_min(1e-12).div(INT8_MAX)
        int8_OI = wide_OI.div(self._scale_O.unsqueeze(1)).round_().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(int8_OI, None)
        self._zero_O = torch.zeros(weight_OI.shape[0], dtype=torch.int64)
        self._run = torch.ops.onednn.qlinear_pointwise.default

    def __call__(self, x_RI: torch.Tensor) -> torch.Tensor:
        """Return the float32 product."""
        wide_RI = x_RI.float()
        # A scale per row, so that no row's product depends on what else is in the batch.
        scale_R1 = wide_RI.abs().amax(1, keepdim=True).div_(INT8_MAX).clamp_min_(1e-12)
        uint8_RI = wide_RI.div(scale_R1).round_().add_(UINT8_ZERO).to(torch.uint8)
        out_RO: torch.Tensor = self._run(
            uint8_RI, 1.0, UINT8_ZERO, self._packed, self._scale_O, self._zero_O,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return out_RO.mul_(scale_R1)


def make_draft_head(
    weight_VD: torch.Tensor, ids_U: torch.Tensor | None = None
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return a cheaper head for proposing tokens, or None where the full one is as good.

    A draft's logits decide only what is proposed, so they may be rough. In int8 a head beyond the
    cache took a fifth of the time (16384 x 768, 1 row); a small one gains nothing.

    Args:
        weight_VD: the full head.
        ids_U: int64 ids of a draft vocabulary; the head has these rows alone, and the rest of what
            is said here goes for what they leave.
    """
    if ids_U is not None:
        weight_UD = weight_VD.index_select(0, ids_U)
        return make_draft_head(weight_UD) or make_linear(weight_UD)
    num_bytes = weight_VD.numel() * weight_VD.element_size()
    if weight_VD.device.type != "cpu" or num_bytes <= SMALL_MATRIX_BYTES:
        return None
    has_int8 = torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()
    return Int8Linear(weight_VD) if has_int8 else None
