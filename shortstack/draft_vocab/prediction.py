"""What a draft head of fewer rows saves, told by the weights that are read. Pure.

At one row a step takes about as long as its weights take to read. With L layers, exit E, a head of
h layers' parameters and a draft head of h' the speed-up over plain decoding is

    tau * (L + h) / (k * (E + h') + L + h)        tau = 1 + a + ... + a^k

(`shared.speculation.cost_model`). A token outside the draft vocabulary is never accepted, so a is
taken to shrink with the coverage. A machine is not so simple: measure before you believe it.
"""

from dataclasses import dataclass

from shared.speculation.cost_model import best_setting, in_layer_units

# Acceptance of drafts from the whole vocabulary, and the longest draft that is thought of.
ACCEPTANCE = 0.7
MAX_DRAFT_LEN = 8
# Below this the head is a small part of a draft step at any exit worth having.
LEAST_HEAD_TO_LAYER = 2.0


@dataclass(frozen=True, slots=True)
class WeightSizes:
    """Weights of a model that decoding reads; parameters, and bytes of one."""

    num_layers: int
    num_layer_params: int
    hidden_size: int
    vocab_size: int
    bytes_per_param: int

    @property
    def exit_layer(self) -> int:
        """The exit that a cell takes by default: a quarter of the layers."""
        return max(1, self.num_layers // 4)

    def head_bytes(self, num_tokens: int) -> int:
        """Return the bytes of a head of so many rows: what every draft step reads of it."""
        return num_tokens * self.hidden_size * self.bytes_per_param

    def draft_step_bytes(self, num_tokens: int) -> int:
        """Return the bytes that a draft step reads: layers [0, E) and the draft head."""
        layer_bytes = self.num_layer_params * self.bytes_per_param
        return self.exit_layer * layer_bytes + self.head_bytes(num_tokens)

    def head_to_layer(self, num_tokens: int) -> float:
        """Return h: parameters of a head of so many rows over those of a layer."""
        return num_tokens * self.hidden_size / self.num_layer_params

    def predicted_speedup(self, num_tokens: int, coverage: float) -> float:
        """Return the speed over plain decoding at the best draft length; 1 where none pays."""
        costs = in_layer_units(
            self.num_layers,
            self.head_to_layer(self.vocab_size),
            [self.exit_layer],
            draft_head_to_layer=self.head_to_layer(num_tokens),
        )
        acceptance = {self.exit_layer: ACCEPTANCE * coverage}
        return best_setting(costs, acceptance, MAX_DRAFT_LEN).predicted_speedup
