"""The load: which requests are sent, and when they arrive. Pure and seeded.

Equal seeds give equal lists, so that every mode and every peer answers the same requests at the
same times. Lists have no end; a measurement takes as many as it needs.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shortstack.bench.prompts import BenchPrompt
from shortstack.errors import UsageError


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One request of a load: a prompt and how many tokens are wanted at most."""

    index: int
    prompt: BenchPrompt
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class LengthMix:
    """Lengths that answers are drawn from: one of the ranges first, both ends included."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def longest(self) -> int:
        """Most tokens that a request may ask for."""
        return max(high for _, high in self.ranges)

    def draw(self, source: random.Random) -> int:
        """Draw a length."""
        return source.randint(*source.choice(self.ranges))

    def __str__(self) -> str:
        """Return the text that `parse_length_mix` reads."""
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ranges)


def parse_length_mix(text: str) -> LengthMix:
    """Read lengths by comma, each a number or a range such as `32-128`.

    Raises:
        UsageError: a part is no length, or a range ends before it begins.
    """
    ranges = tuple(_parse_range(part.strip()) for part in text.split(",") if part.strip())
    if not ranges:
        raise UsageError("--max-new-tokens: give a number, several by comma, or a range")
    return LengthMix(ranges)


def _parse_range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    try:
        bounds = int(low), int(high if dash else low)
    except ValueError:
        raise UsageError(f"--max-new-tokens: {text} is no length, nor a range as 32-128") from None
    if not 1 <= bounds[0] <= bounds[1]:
        raise UsageError(f"--max-new-tokens: {text} must rise from at least 1")
    return bounds


def draw_items(prompts: Sequence[BenchPrompt], mix: LengthMix, seed: str) -> Iterator[WorkItem]:
    """Draw requests without end: all prompts in a random order, then all of them in another."""
    source = random.Random(seed)
    indices = itertools.count()
    while True:
        for prompt in source.sample(prompts, len(prompts)):
            yield WorkItem(next(indices), prompt, mix.draw(source))


def poisson_arrivals(rate: float, seed: str) -> Iterator[float]:
    """Draw arrival times in seconds from the start, without end; `rate` is requests per second."""
    source = random.Random(seed)
    at_s = 0.0
    while True:
        at_s += source.expovariate(rate)
        yield at_s
