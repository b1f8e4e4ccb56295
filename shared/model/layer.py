"""One layer of the stack: attention and a gated MLP over packed rows, and its weights read."""

import torch
import torch.nn.functional as F

from shared.model.attention import attend
from shared.model.config import ModelConfig
from shared.model.linear import Linear, make_linear
from shared.model.rms_norm import RmsNorm
from shared.model.rope import interleave_halves, rotate
from shared.model.rows import RowBatch
from shared.model.weights import Weights


class Layer:
    """One block: attention and gated MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, index: int, weights: Weights, device: str) -> None:
        self._num_heads = config.num_heads
        self._num_kv_heads = config.num_kv_heads
        self._num_rotated = config.num_heads + config.num_kv_heads
        self._head_size = config.head_size
        self._hidden_size = config.hidden_size
        self._intermediate_size = config.intermediate_size
        self._window = config.windows[index]
        read = _LayerReader(config, index, weights, device)
        self._input_norm = read.norm("input_layernorm", config.hidden_size)
        self._post_norm = read.norm("post_attention_layernorm", config.hidden_size)
        self._query_norm = read.head_norm("q_norm") if config.has_qk_norm else None
        self._key_norm = read.head_norm("k_norm") if config.has_qk_norm else None
        self._qkv = read.fused_qkv()
        self._output = read.linear(
            "self_attn.o_proj",
            config.hidden_size,
            config.num_heads * config.head_size,
            config.has_output_bias,
        )
        self._gate_up = read.fused_gate_up()
        self._down = read.linear(
            "mlp.down_proj", config.hidden_size, config.intermediate_size, config.has_mlp_bias
        )

    @property
    def linears(self) -> tuple[tuple[Linear, int], ...]:
        """The matrix products and the size of a row that each takes, to be measured alone."""
        num_attended = self._num_heads * self._head_size
        return (
            (self._qkv, self._hidden_size),
            (self._output, num_attended),
            (self._gate_up, self._hidden_size),
            (self._down, self._intermediate_size),
        )

    def __call__(self, x_RD: torch.Tensor, rows: RowBatch, kv_2GSH: torch.Tensor) -> torch.Tensor:
        """Run the block, writing the rows' keys and values to their slots first."""
        return self.feed_forward(self.attend(x_RD, rows, kv_2GSH))

    def attend(self, x_RD: torch.Tensor, rows: RowBatch, kv_2GSH: torch.Tensor) -> torch.Tensor:
        """Run the attention sub-layer alone; its keys and values are written first."""
        num_rows = x_RD.shape[0]
        qkv = self._qkv(self._input_norm(x_RD))
        heads = qkv.view(num_rows, self._num_rotated + self._num_kv_heads, self._head_size)
        if self._query_norm is not None and self._key_norm is not None:
            self._norm_heads(heads)
        rotate(heads[:, : self._num_rotated], rows.rope_R1C)
        kv = heads[:, self._num_heads :]
        kv = kv.view(num_rows, 2, self._num_kv_heads, self._head_size).permute(1, 2, 0, 3)
        kv_2GSH.index_copy_(2, rows.slots_R, kv)
        queries = heads[:, : self._num_heads]
        return self._output.add(attend(queries, kv_2GSH, rows.spans, self._window), x_RD)

    def feed_forward(self, x_RD: torch.Tensor) -> torch.Tensor:
        """Run the MLP sub-layer alone."""
        gate_up = self._gate_up(self._post_norm(x_RD))
        gate, up = gate_up.chunk(2, -1)
        return self._down.add(F.silu(gate).mul_(up), x_RD)

    def _norm_heads(self, heads: torch.Tensor) -> None:
        assert self._query_norm is not None and self._key_norm is not None
        queries = heads[:, : self._num_heads]
        keys = heads[:, self._num_heads : self._num_rotated]
        queries.copy_(self._query_norm(queries))
        keys.copy_(self._key_norm(keys))


class _LayerReader:
    """Reads the tensors of one layer by their Hugging Face names."""

    def __init__(self, config: ModelConfig, index: int, weights: Weights, device: str) -> None:
        self._config = config
        self._prefix = f"model.layers.{index}."
        self._weights = weights
        self._device = device

    def _read(self, name: str, *shape: int) -> torch.Tensor:
        tensor = self._weights.read(self._prefix + name, shape, self._config.dtype)
        return tensor.to(self._device)

    def norm(self, name: str, size: int) -> RmsNorm:
        return RmsNorm(self._read(f"{name}.weight", size), self._config.rms_eps)

    def head_norm(self, name: str) -> RmsNorm:
        weight = self._read(f"self_attn.{name}.weight", self._config.head_size)
        return RmsNorm(interleave_halves(weight, 1), self._config.rms_eps)

    def linear(self, name: str, num_out: int, num_in: int, has_bias: bool) -> Linear:
        # A copy: a tensor kept as it was read would keep its whole file mapped.
        bias = self._read(f"{name}.bias", num_out).clone() if has_bias else None
        return make_linear(self._read(f"{name}.weight", num_out, num_in), bias)

    def fused_qkv(self) -> Linear:
        config = self._config
        heads = {"q": config.num_heads, "k": config.num_kv_heads, "v": config.num_kv_heads}
        weights, biases = [], []
        for name, num_heads in heads.items():
            num_out = num_heads * config.head_size
            prefix = f"self_attn.{name}_proj"
            weight = self._read(f"{prefix}.weight", num_out, config.hidden_size)
            weights.append(weight if name == "v" else interleave_halves(weight, num_heads))
            if config.has_qkv_bias:
                bias = self._read(f"{prefix}.bias", num_out)
                biases.append(bias if name == "v" else interleave_halves(bias, num_heads))
        return make_linear(torch.cat(weights), torch.cat(biases) if biases else None)

    def fused_gate_up(self) -> Linear:
        config = self._config
        shape = (config.intermediate_size, config.hidden_size)
        weights = [self._read(f"mlp.{name}_proj.weight", *shape) for name in ("gate", "up")]
        bias = None
        if config.has_mlp_bias:
            bias = torch.cat([self._read(f"mlp.{n}_proj.bias", shape[0]) for n in ("gate", "up")])
        return make_linear(torch.cat(weights), bias)
