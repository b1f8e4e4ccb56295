"""Draft adapters: a small attention behind a shallow exit, so that the target's head can read it.

    u       = norm_in(x_l)                      x_l is the raw residual stream after layer l-1
    q, k, v = Wq u, Wk u, Wv u                  heads and rotation of the target, no bias
    a       = x_l + Wo attention(q, K, V)       causal, over the adapter's own KV layer
    z       = norm_out(a)                       what the target's head reads, its norm left out

Kangaroo (arXiv:2404.18911), for models that must not be retrained: only this is trained. Keys and
values of a position depend on x_l there alone, so whoever runs layer l-1 on a row writes them too:
that is what `LayerStack.run` does, and why the extra layer is valid wherever all others are. Not to
be confused with `exit_adapters`, low-rank maps without memory. Knows no files.

Shapes: R rows, D hidden, N query heads, G KV heads, H head size, S slots.
"""

from collections.abc import Sequence

import torch

from shared.model.attention import attend
from shared.model.draft_adapter_weights import DraftAdapterWeights
from shared.model.linear import make_linear
from shared.model.rms_norm import RmsNorm
from shared.model.rope import interleave_halves, rotate
from shared.model.rows import RowBatch


class DraftAdapter:
    """An adapter ready to run, with a KV layer of its own behind those of the model."""

    def __init__(
        self,
        weights: DraftAdapterWeights,
        kv_layer: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        layout = weights.layout
        tensors = {name: each.to(device, dtype) for name, each in weights.tensors.items()}
        self.weights = weights
        self.kv_layer = kv_layer
        self._num_heads = layout.num_heads
        self._num_kv_heads = layout.num_kv_heads
        self._head_size = layout.head_size
        self._norm_in = RmsNorm(tensors["norm_in"], weights.rms_eps)
        self._norm_out = RmsNorm(tensors["norm_out"], weights.rms_eps)
        self._query = make_linear(interleave_halves(tensors["wq"], layout.num_heads))
        keys = interleave_halves(tensors["wk"], layout.num_kv_heads)
        self._key_value = make_linear(torch.cat((keys, tensors["wv"])))
        self._output = make_linear(tensors["wo"])

    def write(self, x_RD: torch.Tensor, rows: RowBatch, kv: Sequence[torch.Tensor]) -> None:
        """Write the rows' keys and values: no attention, no head."""
        kv_RXH = self._key_value(self._norm_in(x_RD)).view(
            x_RD.shape[0], 2, self._num_kv_heads, self._head_size
        )
        rotate(kv_RXH[:, 0], rows.rope_R1C)
        kv[self.kv_layer].index_copy_(2, rows.slots_R, kv_RXH.permute(1, 2, 0, 3))

    def read(self, x_RD: torch.Tensor, rows: RowBatch, kv: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return z [R, D] for the head; the rows' keys and values have been written."""
        queries_RNH = self._query(self._norm_in(x_RD)).view(
            x_RD.shape[0], self._num_heads, self._head_size
        )
        rotate(queries_RNH, rows.rope_R1C)
        attended_RO = attend(queries_RNH, kv[self.kv_layer], rows.spans, None)
        return self._norm_out(self._output.add(attended_RO, x_RD))


def place_adapters(
    adapters: Sequence[DraftAdapterWeights],
    num_layers: int,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[int, DraftAdapter]:
    """Return adapters by exit layer, shallow first; each has the next KV layer behind the model's.

    Args:
        adapters: of different exits.
        num_layers: L of the model; KV layers [0, L) are its own.
        device: where to run; dtype: of the model.
    """
    ordered = sorted(adapters, key=lambda each: each.exit_layer)
    return {
        each.exit_layer: DraftAdapter(each, num_layers + index, device, dtype)
        for index, each in enumerate(ordered)
    }
