"""Shapes of synthetic Llama models by their number of parameters.

Arithmetic only: knows nothing of torch or transformers. Common sizes stand in a table, any other
is derived by a rule that keeps the proportions of the table.
"""

import re
from dataclasses import dataclass, replace

HEAD_SIZE = 64
UNITS = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a Llama decoder whose output head is not tied to the embedding."""

    num_layers: int
    hidden_size: int
    ffn_size: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int = 16384

    @property
    def head_size(self) -> int:
        """Elements of an attention head."""
        return self.hidden_size // self.num_heads

    @property
    def num_layer_params(self) -> int:
        """Weights of one layer, its two norms included."""
        attention = 2 * self.hidden_size * (self.num_heads + self.num_kv_heads) * self.head_size
        return attention + 3 * self.hidden_size * self.ffn_size + 2 * self.hidden_size

    @property
    def num_params(self) -> int:
        """All weights: embedding, layers, final norm, head."""
        outer = 2 * self.vocab_size * self.hidden_size + self.hidden_size
        return outer + self.num_layers * self.num_layer_params


SHAPES = {
    "42M": ModelShape(8, 512, 1536, 8, 4),
    "126M": ModelShape(16, 768, 2048, 12, 4),
    "341M": ModelShape(24, 1024, 3328, 16, 4),
    "1B": ModelShape(16, 2048, 8192, 32, 8),
    "3B": ModelShape(28, 3072, 8192, 24, 8),
}


def parse_params(text: str) -> int:
    """Return the number that `126M`, `1.5B` or `800000` stands for.

    Raises:
        ValueError: the text is no such number.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip().upper())
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is no number of parameters; write 126M, 1.5B or 800000")
    return round(float(match[1]) * UNITS.get(match[2], 1))


def shape_for(text: str) -> ModelShape:
    """Return the shape of a size: from the table, else the widest that the rule fits into it.

    Raises:
        ValueError: the text is no number, or too small for the vocabulary of a tokenizer.
    """
    known = SHAPES.get(text.strip().upper())
    if known is not None:
        return known
    num_params = parse_params(text)
    fitting = [shape for shape in _ladder(num_params) if shape.num_params <= num_params]
    if not fitting:
        least = min(shape.num_params for shape in _ladder(num_params))
        raise ValueError(f"{text} parameters are too few; the smallest model has {least:,}")
    return _fill(fitting[-1], num_params)


def _ladder(num_params: int) -> list[ModelShape]:
    # Below 10M parameters a vocabulary of 16384 would leave nothing to the layers.
    vocab_size = 16384 if num_params >= 10_000_000 else 1024
    widths = [*range(64, 512, 64), *range(512, 8192 + 256, 256)]
    return [_proportioned(hidden, vocab_size) for hidden in widths]


def _proportioned(hidden_size: int, vocab_size: int) -> ModelShape:
    num_heads = hidden_size // HEAD_SIZE
    num_kv_heads = max(heads for heads in (1, 2, 4, 8) if num_heads % heads == 0)
    if num_kv_heads == num_heads > 1:
        num_kv_heads //= 2
    num_layers = min(max(4, hidden_size // 96 * 2), 48)
    return ModelShape(num_layers, hidden_size, 2 * hidden_size, num_heads, num_kv_heads, vocab_size)


def _fill(shape: ModelShape, num_params: int) -> ModelShape:
    """Widen the feed-forward part, in steps of 64, as far as the number allows."""
    step = 64 * 3 * shape.hidden_size * shape.num_layers
    num_steps = (num_params - shape.num_params) // step
    return replace(shape, ffn_size=shape.ffn_size + 64 * num_steps)
