"""The mixed load of a soak: short and long prompts, shared prefixes, some requests cancelled. Pure.

Prompts come from small pools, so that plain decoding can judge every answer afterwards.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.made_prompts import made_prompt, random_ids
from shortstack.bench.serve.workload import LengthMix, WorkItem

NUM_LONG, MAX_LONG_LEN = 4, 768
NUM_SHARING, MAX_PREFIX_LEN, TAIL_LEN = 8, 256, 16
SHARE_LONG, SHARE_SHARING, SHARE_CANCELLED = 0.2, 0.3, 0.25
# A cancelled request ends after a time drawn from here: before its first token, or amid its answer.
CANCEL_SPAN_S = (0.02, 3.0)


@dataclass(frozen=True, slots=True)
class SoakItem:
    """One request; cancel_after_s None lets it end by itself."""

    item: WorkItem
    sender_index: int
    cancel_after_s: float | None


@dataclass(frozen=True, slots=True)
class SoakPrompts:
    """The pools that a soak draws from."""

    short: Sequence[BenchPrompt]
    long: Sequence[BenchPrompt]
    sharing: Sequence[BenchPrompt]

    @property
    def all(self) -> list[BenchPrompt]:
        """Every prompt once."""
        return [*self.short, *self.long, *self.sharing]

    def draw(self, source: random.Random) -> BenchPrompt:
        """Draw a prompt."""
        place = source.random()
        if place < SHARE_LONG:
            return source.choice(self.long)
        if place < SHARE_LONG + SHARE_SHARING:
            return source.choice(self.sharing)
        return source.choice(self.short)


def make_pools(short: Sequence[BenchPrompt], vocab_size: int, room: int, seed: str) -> SoakPrompts:
    """Make the pools; `room` is the longest prompt that leaves room for every answer."""
    long_len, prefix_len = min(MAX_LONG_LEN, room), min(MAX_PREFIX_LEN, room - TAIL_LEN)
    prefix = random_ids(prefix_len, vocab_size, f"{seed} prefix")
    return SoakPrompts(
        short,
        [made_prompt(f"long-{i}", long_len, vocab_size, seed) for i in range(NUM_LONG)],
        [
            made_prompt(f"sharing-{i}", TAIL_LEN, vocab_size, seed, prefix=prefix)
            for i in range(NUM_SHARING)
        ],
    )


def draw_soak(
    prompts: SoakPrompts, mix: LengthMix, num_senders: int, seed: str
) -> Iterator[SoakItem]:
    """Draw requests without end."""
    source = random.Random(seed)
    index = 0
    while True:
        item = WorkItem(index, prompts.draw(source), mix.draw(source))
        is_cancelled = source.random() < SHARE_CANCELLED
        span_s = source.uniform(*CANCEL_SPAN_S)
        yield SoakItem(item, source.randrange(num_senders), span_s if is_cancelled else None)
        index += 1
