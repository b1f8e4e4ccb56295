"""The Llama stack that is trained, cut into pieces that the recipe can hold on to.

Knows nothing of layer dropout, exits or losses. Parameter names are those of Hugging Face's
LlamaForCausalLM, so `state_dict()` is what a model directory holds; embedding and head are tied.
Shapes: B rows, T positions, D hidden, N query heads, G KV heads, H head size, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelShape:
    """The numbers of a Llama model; the defaults are those of the bundled checkpoint."""

    vocab_size: int = 2048
    num_layers: int = 12
    hidden_size: int = 256
    ffn_size: int = 704
    num_heads: int = 4
    num_kv_heads: int = 2
    head_size: int = 64
    max_positions: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


class Context(NamedTuple):
    """What attention needs beside the states: one entry per row, so that rows can be selected.

    cos_BTH and sin_BTH are the rotations of the rows' positions; mask_BTT is true where a query
    may look, or None for plain causal attention.
    """

    cos_BTH: Tensor
    sin_BTH: Tensor
    mask_BTT: Tensor | None

    def select(self, rows: Tensor) -> "Context":
        """The context of some of the rows."""
        mask = None if self.mask_BTT is None else self.mask_BTT[rows]
        return Context(self.cos_BTH[rows], self.sin_BTH[rows], mask)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped keys and values."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.head_size = shape.head_size
        self.num_shared = shape.num_heads // shape.num_kv_heads
        query_size = shape.num_heads * shape.head_size
        kv_size = shape.num_kv_heads * shape.head_size
        self.q_proj = nn.Linear(shape.hidden_size, query_size, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(query_size, shape.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Attend within each row; the result has the shape of the input."""
        num_rows, num_positions, _ = x_BTD.shape
        heads = (num_rows, num_positions, -1, self.head_size)
        q_BNTH = rotate(self.q_proj(x_BTD).view(heads), context).transpose(1, 2)
        k_BGTH = rotate(self.k_proj(x_BTD).view(heads), context).transpose(1, 2)
        v_BGTH = self.v_proj(x_BTD).view(heads).transpose(1, 2)
        k_BNTH = k_BGTH.repeat_interleave(self.num_shared, dim=1)
        v_BNTH = v_BGTH.repeat_interleave(self.num_shared, dim=1)
        mask = None if context.mask_BTT is None else context.mask_BTT[:, None]
        out_BNTH = F.scaled_dot_product_attention(
            q_BNTH, k_BNTH, v_BNTH, attn_mask=mask, is_causal=mask is None
        )
        out_BTD: Tensor = self.o_proj(out_BNTH.transpose(1, 2).reshape(num_rows, num_positions, -1))
        return out_BTD


class MLP(nn.Module):
    """The gated feed-forward part of a block."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.ffn_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.ffn_size, bias=False)
        self.down_proj = nn.Linear(shape.ffn_size, shape.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """SwiGLU."""
        out_BTD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out_BTD


class Block(nn.Module):
    """One layer: x + attention + MLP, both on normed states."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.norm_eps)

    def forward(self, x_BTD: Tensor, context: Context) -> Tensor:
        """Return the states after this layer."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), context)
        x_BTD = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return x_BTD


class _Stack(nn.Module):
    """Holder of the parts, for the sake of Hugging Face's parameter names."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.norm_eps)


class Llama(nn.Module):
    """Embedding, layers, and one norm and head for all exits.

    There is no forward: `embed`, the `layers` and `logits` are run by whoever knows which rows
    and exits are wanted.
    """

    def __init__(self, shape: ModelShape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.model = _Stack(shape)
        self.cos_PH: Tensor
        self.sin_PH: Tensor
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos_PH", cos, persistent=False)
        self.register_buffer("sin_PH", sin, persistent=False)
        self._initialise(seed)

    @property
    def layers(self) -> nn.ModuleList:
        """The blocks, shallow to deep."""
        return self.model.layers

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """x_0, the input of the first layer."""
        x_BTD: Tensor = self.model.embed_tokens(tokens_BT)
        return x_BTD

    def context(self, positions_BT: Tensor, mask_BTT: Tensor | None = None) -> Context:
        """What the layers need to know of the positions of the rows."""
        return Context(self.cos_PH[positions_BT], self.sin_PH[positions_BT], mask_BTT)

    def logits(self, states_RD: Tensor) -> Tensor:
        """g: final norm, then head; the same for every exit."""
        return F.linear(self.model.norm(states_RD), self.model.embed_tokens.weight)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        """Normal weights of deviation 0.02; smaller where a layer writes to the residual stream."""
        generator = torch.Generator().manual_seed(seed)
        residual = 0.02 / (2 * self.shape.num_layers) ** 0.5
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                weight.normal_(0.0, residual if writes else 0.02, generator=generator)


def rotary_tables(shape: ModelShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines by position, float32, as wide as a head (both halves alike)."""
    exponents = torch.arange(0, shape.head_size, 2, dtype=torch.float32) / shape.head_size
    frequencies = shape.rope_theta**-exponents
    angles = torch.outer(torch.arange(shape.max_positions, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BTNH: Tensor, context: Context) -> Tensor:
    """Rotary positions in the half-split order of Hugging Face's Llama."""
    first, second = x_BTNH.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x_BTNH * context.cos_BTH[:, :, None] + turned * context.sin_BTH[:, :, None]


def huggingface_config(shape: ModelShape, end_id: int) -> dict[str, Any]:
    """config.json of this shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.ffn_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.max_positions,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
    }


def shape_of_config(config: dict[str, Any]) -> ModelShape:
    """The shape that a config.json describes."""
    heads = config["num_attention_heads"]
    return ModelShape(
        vocab_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        ffn_size=config["intermediate_size"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads", heads),
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        max_positions=config["max_position_embeddings"],
        rope_theta=_rope_theta(config),
        norm_eps=config["rms_norm_eps"],
    )


def _rope_theta(config: dict[str, Any]) -> float:
    """rope_theta, which newer versions of transformers nest in rope_parameters."""
    nested = config.get("rope_parameters") or {}
    return float(config.get("rope_theta", nested.get("rope_theta", 10000.0)))
