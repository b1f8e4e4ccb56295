"""How many threads a pass is worth: to divide a small product costs more than it saves.

The threads of a product meet at its end, some hundred times a pass. Processors are shared with the
event loop, with the other worker of the cell and with whoever else is on the machine, and whichever
thread is late holds up the pass.

    threads = the greater one of    weights of a layer's largest product / MIN_WEIGHTS
                                    its multiplications for all rows     / MIN_PRODUCTS
              at least 1, at most all

Reading weights bounds a pass of few rows, multiplying one of many: a prefill of a small model is
divided, its drafts are not. `bench/threads.py` prints what that is worth, through the gateway.
"""

import torch

from shared.model.config import ModelConfig

# Per thread. A product of so many weights takes one thread some hundred microseconds.
MIN_WEIGHTS = 400_000
MIN_PRODUCTS = 4_000_000


class ComputeThreads:
    """Sets the compute threads of the calling thread to what each pass is worth.

    num_weights: of a layer's largest product; least, most: bounds, from 1.
    """

    def __init__(self, num_weights: int, most: int, least: int = 1) -> None:
        self._num_weights = num_weights
        self._least = least
        self._most = most

    @classmethod
    def for_model(cls, config: ModelConfig, num_threads: int = 0) -> "ComputeThreads":
        """Return so many threads for every pass; 0: what each is worth, at most what torch has."""
        num_weights = config.hidden_size * config.intermediate_size
        return cls(num_weights, num_threads or torch.get_num_threads(), num_threads or 1)

    def at(self, num_rows: int) -> int:
        """Return the threads for a pass of so many rows."""
        reading = self._num_weights // MIN_WEIGHTS
        multiplying = self._num_weights * num_rows // MIN_PRODUCTS
        return max(self._least, min(self._most, max(reading, multiplying)))

    def fit(self, num_rows: int) -> None:
        """Compute on as many from here on; takes no time worth speaking of."""
        torch.set_num_threads(self.at(num_rows))
