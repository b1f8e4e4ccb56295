"""How often an early exit of a model agrees with its end, and damping until it does.

An exit at E reads final norm and head on x_E, the output of layer E - 1. Knows nothing of files or
the command line; the model is a Hugging Face Llama. Greedy throughout.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from shortstack.bench.synthetic_model import Recipe, scale_late_layers

OnStep = Callable[[str], None]

PROMPT_LEN = 12
NUM_SEQUENCES = 8
SEARCH_LEN = 96
MAX_DAMPING = 2.0
MAX_BISECTIONS = 14
MAX_CORRECTIONS = 3
TOLERANCE = 0.01


def random_text(recipe: Recipe, num_tokens: int, seed: int) -> Tensor:
    """Return sequences of random words, [NUM_SEQUENCES, num_tokens]."""
    generator = torch.Generator().manual_seed(seed)
    size = (NUM_SEQUENCES, num_tokens)
    return torch.randint(recipe.first_word_id, recipe.shape.vocab_size, size, generator=generator)


@torch.no_grad()
def exit_agreements(model: Any, text_BT: Tensor, exits: range, start: int = 0) -> list[float]:
    """Return, per exit, the share of positions [start, T) where it chooses as the end does."""
    num_agreeing = [0] * len(exits)
    for row in text_BT:
        output = model.model(row[None], output_hidden_states=True, use_cache=False)
        end = _choices(model, output.last_hidden_state[0, start:])
        for index, exit_layer in enumerate(exits):
            # Entry E of hidden_states is x_E, without the norm, for E < L.
            states = model.model.norm(output.hidden_states[exit_layer][0, start:])
            num_agreeing[index] += int((_choices(model, states) == end).sum())
    num_positions = text_BT.shape[0] * (text_BT.shape[1] - start)
    return [count / num_positions for count in num_agreeing]


def _choices(model: Any, normed_states_RD: Tensor) -> Tensor:
    logits: Tensor = model.lm_head(normed_states_RD)
    return logits.argmax(dim=-1)


class Damper:
    """Scales layers [E, L) of a model until the exit at E agrees as often as wished."""

    def __init__(self, model: Any, recipe: Recipe, on_step: OnStep) -> None:
        self.damping = 1.0
        self._model = model
        self._recipe = recipe
        self._on_step = on_step

    def search(self, wish: float, num_tokens: int) -> Tensor:
        """Find the damping: roughly on random words, then exactly on text the model generates.

        Returns:
            That text, [NUM_SEQUENCES, PROMPT_LEN + num_tokens].

        Raises:
            ValueError: the exit agrees more often than wished however loud the late layers are.
        """
        self._bisect(wish)
        prompts = random_text(self._recipe, PROMPT_LEN, self._recipe.seed + 2)
        for correction in range(MAX_CORRECTIONS + 1):
            tokens = continue_greedily(self._model, prompts, num_tokens)
            text = torch.cat([prompts, tokens], dim=1)
            rate = self._rate(text[:, :-1], PROMPT_LEN - 1)
            if abs(rate - wish) <= TOLERANCE or correction == MAX_CORRECTIONS:
                break
            # Disagreement grows about as the noise of the late layers does.
            self._set(self.damping * (1 - wish) / max(1 - rate, (1 - wish) / 2))
        return text

    def _bisect(self, wish: float) -> None:
        """Bisect on random words, where one pass without generating measures all positions."""
        text = random_text(self._recipe, SEARCH_LEN, self._recipe.seed + 1)
        low, high, rate = 0.0, MAX_DAMPING, 1.0
        for _ in range(MAX_BISECTIONS):
            self._set((low + high) / 2)
            rate = self._rate(text)
            if abs(rate - wish) <= TOLERANCE:
                return
            low, high = (self.damping, high) if rate > wish else (low, self.damping)
        if high == MAX_DAMPING:
            raise ValueError(f"agreement {wish} is out of reach: {rate:.3f} is the lowest possible")

    def _set(self, damping: float) -> None:
        scale_late_layers(self._model, self._recipe.at_layer, damping / self.damping)
        self.damping = damping

    def _rate(self, text_BT: Tensor, start: int = 0) -> float:
        at_layer = self._recipe.at_layer
        rate = exit_agreements(self._model, text_BT, range(at_layer, at_layer + 1), start)[0]
        self._on_step(f"damping {self.damping:.4f}: agreement {rate:.3f} at layer {at_layer}")
        return rate


@torch.no_grad()
def continue_greedily(model: Any, prompts_BP: Tensor, num_tokens: int) -> Tensor:
    """Return the greedy continuation of each prompt, [B, num_tokens]."""
    from transformers import DynamicCache

    cache, inputs, tokens = DynamicCache(config=model.config), prompts_BP, []
    with _packed_linears(model):
        for _ in range(num_tokens):
            output = model.model(inputs, past_key_values=cache)
            tokens.append(_choices(model, output.last_hidden_state[:, -1]))
            inputs = tokens[-1][:, None]
    return torch.stack(tokens, dim=1)


class _PackedLinear(nn.Module):
    """A linear layer with weights packed for few rows, where ATen's own is twice as slow."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight, NUM_SEQUENCES)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, None, "none", [], "")
        return result


@contextmanager
def _packed_linears(model: Any) -> Iterator[None]:
    """Run the model's linear layers packed inside the context, where oneDNN is there."""
    owners = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Linear)
    ]
    if not torch.backends.mkldnn.is_available():
        owners = []
    try:
        for module, name, child in owners:
            setattr(module, name, _PackedLinear(child))
        yield
    finally:
        for module, name, child in owners:
            setattr(module, name, child)
