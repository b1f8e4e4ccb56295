"""Draft adapters in training, and the frozen model that they learn from.

    u = norm_in(f);  a = f + Wo attention(Wq u, Wk u, Wv u);  z = norm_out(a)

f is the raw residual stream at the adapter's exit; heads and rotation are the model's, causal over
the whole row; z goes to the model's own head. The same maths as `shared.model.draft_adapters`, with
gradients. Shapes: B rows, T positions, D hidden, N query heads, G KV heads, H head size.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.model.draft_adapter_weights import DraftAdapterWeights, HeadLayout
from training.exits import frozen_states, stack_of

RMS_EPS = 1e-6
FRESH, RAW_EXIT = "fresh", "raw_exit"


class TrainableDraftAdapter(nn.Module):
    """One adapter; its parameters have the names of the file's tensors."""

    def __init__(self, layout: HeadLayout, generator: torch.Generator) -> None:
        super().__init__()
        self.layout = layout
        for name, shape in layout.shapes().items():
            weight = nn.Parameter(torch.ones(shape))
            if len(shape) > 1:
                nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
            self.register_parameter(name, weight)

    @torch.no_grad()
    def start_at_raw_exit(self, final_norm_D: Tensor) -> None:
        """Let the attention add nothing and the norm be the model's: z is that of the raw exit."""
        self.get_parameter("wo").zero_()
        self.get_parameter("norm_out").copy_(final_norm_D)

    def forward(self, f_BTD: Tensor, cos_BTH: Tensor, sin_BTH: Tensor) -> Tensor:
        """z [B, T, D]."""
        u_BTD = _rms_norm(f_BTD, self.get_parameter("norm_in"))
        queries = _rotated(self._heads(u_BTD, "wq", self.layout.num_heads), cos_BTH, sin_BTH)
        keys = _rotated(self._heads(u_BTD, "wk", self.layout.num_kv_heads), cos_BTH, sin_BTH)
        values = self._heads(u_BTD, "wv", self.layout.num_kv_heads)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, enable_gqa=True
        )
        joined = attended.transpose(1, 2).flatten(2)
        a_BTD = f_BTD + F.linear(joined, self.get_parameter("wo"))
        return _rms_norm(a_BTD, self.get_parameter("norm_out"))

    def _heads(self, u_BTD: Tensor, name: str, num_heads: int) -> Tensor:
        """A projection by heads, [B, heads, T, H]."""
        projected = F.linear(u_BTD, self.get_parameter(name))
        return projected.unflatten(-1, (num_heads, self.layout.head_size)).transpose(1, 2)


def _rms_norm(x: Tensor, weight_D: Tensor) -> Tensor:
    return F.rms_norm(x, weight_D.shape, weight_D, RMS_EPS)


def _rotated(heads: Tensor, cos_BTH: Tensor, sin_BTH: Tensor) -> Tensor:
    """Rotate [B, heads, T, H], halves of a head being the pairs, as in the model's own files."""
    first, second = heads.chunk(2, -1)
    turned = torch.cat((-second, first), -1)
    return heads * cos_BTH.unsqueeze(1) + turned * sin_BTH.unsqueeze(1)


class AdaptersOfModel(nn.Module):
    """Adapters by exit, and their frozen model, which is no part of their state.

    One forward of the model, without gradients, gives what all adapters read and learn from.
    """

    def __init__(self, base: Any, layout: HeadLayout, exits: Sequence[int], seed: int) -> None:
        super().__init__()
        self._layout = layout
        generator = torch.Generator().manual_seed(seed)
        self.adapters = nn.ModuleDict(
            {str(each): TrainableDraftAdapter(layout, generator) for each in sorted(exits)}
        )
        # In a list: a submodule would be wrapped, moved, trained and kept in checkpoints.
        self._frozen = [base.requires_grad_(False).eval()]

    @property
    def base(self) -> Any:
        """The model."""
        return self._frozen[0]

    @property
    def exits(self) -> tuple[int, ...]:
        """Exit layers that have an adapter, ascending."""
        return tuple(int(name) for name in self.adapters)

    def start_at_raw_exits(self) -> None:
        """Let every adapter begin as its raw exit."""
        for adapter in self.adapters.values():
            assert isinstance(adapter, TrainableDraftAdapter)
            adapter.start_at_raw_exit(stack_of(self.base).norm.weight)

    def weights_of(self, exit_layer: int) -> DraftAdapterWeights:
        """An adapter as it is stored and served."""
        parameters = self.adapters[str(exit_layer)].named_parameters()
        tensors = {name: each.detach().cpu() for name, each in parameters}
        return DraftAdapterWeights(exit_layer, self._layout, RMS_EPS, tensors)

    def base_states(self, input_ids_BT: Tensor) -> dict[int, Tensor]:
        """x_E [B, T, D] of the adapters' exits and of the last layer, by E; without norms."""
        return frozen_states(self.base, input_ids_BT, self.exits)

    def read(self, states: dict[int, Tensor]) -> dict[int, Tensor]:
        """z [B, T, D] by exit."""
        num_rows, num_positions, _ = next(iter(states.values())).shape
        some = states[self.exits[0]]
        positions = torch.arange(num_positions, device=some.device).expand(num_rows, -1)
        with torch.no_grad():
            cos_BTH, sin_BTH = stack_of(self.base).rotary_emb(some, positions)
        return {
            each: self.adapters[str(each)](states[each], cos_BTH, sin_BTH) for each in self.exits
        }
