"""A model, texts that it wrote, and how well it drafts them less a skip set."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch

from shared.ids import TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import load_stack
from shared.model.page_table import PageTable, num_pages_for
from shared.model.plain import PlainDecoder, pool_layout
from shared.model.rows import SessionRows, pack_rows
from shared.model.sampling import RowChoice
from shared.model.segment import LocalSegment
from shared.model.skip_scores import SkipScorer
from shared.speculation.skip_set import SkipSet
from shared.speculation.vocabulary import Extent, SamplingParams, StopParams

GREEDY = SamplingParams()
PAGE_SIZE = 16
WINDOW_LEN = 32
# Draft tokens that a round behind the end of a text has slots for.
MAX_NODES = 28


@dataclass
class Text:
    """A prompt and its plain continuation, with exact KV of all of it in a pool of its own."""

    prompt_len: int
    tokens: list[TokenId]
    pool: KVPool = field(repr=False)

    @property
    def num_new(self) -> int:
        """Tokens of the continuation."""
        return len(self.tokens) - self.prompt_len

    @property
    def windows(self) -> list[int]:
        """First inputs of windows behind the opening, page by page, none of them overlapping."""
        first = -(-(self.prompt_len + WINDOW_LEN) // PAGE_SIZE) * PAGE_SIZE
        return list(range(first, len(self.tokens) - WINDOW_LEN, WINDOW_LEN))


class Bench:
    """A model and texts that it wrote."""

    def __init__(self, model: Path, prompts: list[list[int]], num_tokens: int) -> None:
        self.stack = load_stack(model)
        self.num_layers = self.stack.config.num_layers
        self._decoder = PlainDecoder(model, stack=self.stack)
        self.texts = [self._write(prompt, num_tokens) for prompt in prompts]

    def _write(self, prompt: list[int], num_tokens: int) -> Text:
        room = self.stack.config.max_context_len - len(prompt) - MAX_NODES - 1
        stop = StopParams(min(num_tokens, room))
        found = self._decoder.generate(prompt, GREEDY, stop, with_gaps=False)
        tokens = [TokenId(token) for token in (*prompt, *found.token_ids)]
        num_positions = len(tokens) + MAX_NODES + 1 + WINDOW_LEN + PAGE_SIZE
        layout = pool_layout(self.stack, num_positions, PAGE_SIZE)
        pool = KVPool(LocalSegment(layout.size_bytes, self.stack.device), layout)
        rows = pack_rows([SessionRows(table_of(pool), tokens, 0)], self.stack.rope_table_P1C)
        with torch.inference_mode():
            self.stack.run(self.stack.embed(rows), 0, self.num_layers, rows, pool.layers)
        return Text(len(prompt), tokens, pool)

    def plain_ns(self, text: Text) -> int:
        """Return the time that plain decoding of a text takes now, its prompt left out."""
        prompt, stop = text.tokens[: text.prompt_len], StopParams(text.num_new)
        return self._decoder.generate(prompt, GREEDY, stop, with_gaps=False).decode_ns

    def score(self, skip_set: SkipSet, text: Text, start: int) -> float:
        """Return the share of a window's answers that a set would have drafted."""
        num_pages = num_pages_for(WINDOW_LEN, PAGE_SIZE)
        last = text.pool.layout.num_pages
        spare = Extent(last - num_pages, num_pages)
        table = PageTable([Extent(0, start // PAGE_SIZE), spare], PAGE_SIZE)
        end = start + WINDOW_LEN
        rows = [RowChoice(GREEDY, position + 1) for position in range(start, end)]
        with torch.inference_mode():
            scorer = SkipScorer(self.stack, text.pool)
            found = scorer.choices(skip_set, table, text.tokens[start:end], start, rows)
        pairs = zip(found, text.tokens[start + 1 : end + 1], strict=True)
        return mean(a == b for a, b in pairs)

    def mean_score(self, skip_set: SkipSet, texts: list[Text]) -> float:
        """Return the mean score over all windows of some texts."""
        return mean(self.score(skip_set, text, start) for text in texts for start in text.windows)


def table_of(pool: KVPool) -> PageTable:
    """Return a table of all of a pool."""
    return PageTable([Extent(0, pool.layout.num_pages)], PAGE_SIZE)
