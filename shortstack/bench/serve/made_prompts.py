"""Prompts made on the spot, where a scenario needs lengths or sharing that no file has. Pure."""

import random
from collections.abc import Iterator, Sequence

from shortstack.bench.prompts import BenchPrompt

# Below are ids that vocabularies reserve: specials, and bytes in those with a fallback to them.
FIRST_ID = 300


def random_ids(num_ids: int, vocab_size: int, seed: str) -> tuple[int, ...]:
    """Draw token ids; small vocabularies are used whole, but for the first three."""
    first = FIRST_ID if vocab_size > 2 * FIRST_ID else min(3, vocab_size - 1)
    source = random.Random(seed)
    return tuple(source.randrange(first, vocab_size) for _ in range(num_ids))


def made_prompt(
    name: str, num_ids: int, vocab_size: int, seed: str, *, prefix: Sequence[int] = ()
) -> BenchPrompt:
    """Make a prompt of random ids behind a prefix; name and seed together make it unique."""
    own = random_ids(num_ids, vocab_size, f"{seed} {name}")
    return BenchPrompt(f"{name} ({seed})", "made", (*prefix, *own))


def made_prompts(name: str, num_ids: int, vocab_size: int, seed: str) -> Iterator[BenchPrompt]:
    """Make prompts without end, no two alike."""
    index = 0
    while True:
        yield made_prompt(f"{name}-{index}", num_ids, vocab_size, seed)
        index += 1
