"""Random Llama weights whose early exit can be made to agree with the end.

Knows nothing of files, tokenizers or the command line. The construction:

* The head is the embedding with its rows permuted along one cycle through all words: what the
  embedding of a token asks for is the next word of the cycle, so greedy text walks on.
* Layers [0, E) add noise to the residual stream that turns choices to other words, depending on the
  context; layers [E, L) add noise times a damping and turn some more. The exit at E (final norm and
  head on the output of layer E - 1) has not seen the latter, so the damping sets how often it
  agrees with the end. Each later layer leaves less noise to come: deeper exits agree more.
* Rows of the head below the first word are zero: specials and bytes have the logit 0 where the best
  word has 10 and more, so the end-of-sequence token is practically never chosen.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shortstack.bench.shapes import ModelShape

# Standard deviation of a random word's logit: the best of 16384 then stands out as in real models.
LOGIT_STD = 4.0
# Standard deviation of attention scores: a head then looks at one position, or two. Averages over
# many would fade as the context grows, and the agreement would drift with them.
SCORE_STD = 12.0
# Brings the attention's output down to the MLP's.
ATTENTION_GAIN = 0.7
# Noise of layers [0, E) relative to what would turn most of the embedding's choices.
EARLY_NOISE = 1.0
# Root mean square of a sub-layer's output when its last matrix has gain 1, as measured.
SUBLAYER_RMS = 0.6


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the weights are made from."""

    shape: ModelShape
    at_layer: int
    first_word_id: int
    eos_id: int
    seed: int
    max_context_len: int


def build_model(recipe: Recipe) -> Any:
    """Return a LlamaForCausalLM in float32 with the undamped weights of the recipe."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = recipe.shape
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.ffn_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=recipe.max_context_len,
        bos_token_id=recipe.eos_id - 1,
        eos_token_id=recipe.eos_id,
        tie_word_embeddings=False,
        dtype="float32",
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.to_empty(device="cpu")
    # Rotary frequencies are computed, not loaded; to_empty has wiped them.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        _fill_outer(model, recipe, generator)
        for index, layer in enumerate(model.model.layers):
            _fill_layer(layer, _sublayer_gain(recipe, index), generator)
    return model.eval()


def _fill_outer(model: Any, recipe: Recipe, generator: torch.Generator) -> None:
    """Fill embedding, final norm and head."""
    embedding = model.model.embed_tokens.weight
    embedding.normal_(generator=generator)
    embedding.div_(embedding.pow(2).mean(dim=1, keepdim=True).sqrt())
    num_words = recipe.shape.vocab_size - recipe.first_word_id
    cycle = torch.randperm(num_words, generator=generator) + recipe.first_word_id
    head = model.lm_head.weight.zero_()
    head[cycle.roll(-1)] = embedding[cycle] * (LOGIT_STD / math.sqrt(recipe.shape.hidden_size))
    model.model.norm.weight.fill_(1.0)


def _fill_layer(layer: Any, gain: float, generator: torch.Generator) -> None:
    """Fill one layer; `gain` is that of the two matrices that write to the residual stream."""
    gains: dict[nn.Linear, float] = {
        layer.self_attn.q_proj: math.sqrt(SCORE_STD),
        layer.self_attn.k_proj: math.sqrt(SCORE_STD),
        layer.self_attn.v_proj: 1.0,
        layer.self_attn.o_proj: ATTENTION_GAIN * gain,
        layer.mlp.gate_proj: 1.0,
        layer.mlp.up_proj: 1.0,
        layer.mlp.down_proj: gain,
    }
    for linear, value in gains.items():
        linear.weight.normal_(generator=generator).mul_(value / math.sqrt(linear.in_features))
    layer.input_layernorm.weight.fill_(1.0)
    layer.post_attention_layernorm.weight.fill_(1.0)


def _sublayer_gain(recipe: Recipe, layer_index: int) -> float:
    """Return the gain that makes layers [0, E) and layers [E, L) equally loud, each in sum.

    An embedding of root mean square 1 keeps its choice while the best of V random words stays below
    it, that is while noise of root mean square r has sqrt(2 ln V) * sqrt(D) * r < D.
    """
    shape = recipe.shape
    turning_rms = math.sqrt(shape.hidden_size / (2 * math.log(shape.vocab_size)))
    is_early = layer_index < recipe.at_layer
    num_layers = recipe.at_layer if is_early else shape.num_layers - recipe.at_layer
    return EARLY_NOISE * turning_rms / (SUBLAYER_RMS * math.sqrt(2 * num_layers))


@torch.no_grad()
def scale_late_layers(model: Any, at_layer: int, factor: float) -> None:
    """Multiply what layers [E, L) add to the residual stream."""
    for layer in model.model.layers[at_layer:]:
        layer.self_attn.o_proj.weight.mul_(factor)
        layer.mlp.down_proj.weight.mul_(factor)
