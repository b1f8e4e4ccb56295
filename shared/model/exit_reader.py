"""Reads every exit of a model along a finished text, in one teacher-forced pass.

    rows      0 ........ start-1 ........ T-2     all run through all layers, in chunks
    choices              start .......... T-1     what each exit makes of the row before

Exits are read as a draft worker reads them, through their adapters and the head that drafts; the
last layer through the head that verifies. All choose with the text's own sampling parameters and
the noise of the position, so that an exit's choice is the draft that it would have made there.
"""

from collections.abc import Collection, Sequence

import torch

from shared.ids import TokenId
from shared.model.chances import choose_drafts
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.plain import PAGE_SIZE, PREFILL_CHUNK_LEN, pool_layout
from shared.model.rows import RowBatch, SessionRows, pack_rows
from shared.model.sampling import Choices, RowChoice, choose
from shared.model.segment import LocalSegment
from shared.speculation.vocabulary import Extent, SamplingParams

GREEDY = SamplingParams()
# Rows that a head sees at a time: 64 of a vocabulary of 128k are 32 MB of float32 logits.
HEAD_CHUNK_LEN = 64


class ExitReader:
    """A layer stack, loaded to its last layer with both heads, and KV for one text.

    max_len: the longest text that will be read, in tokens.
    through_adapters: read the exits that have a draft adapter, and through that, as method kangaroo
        does; else all exits as other drafts read them.
    """

    def __init__(self, stack: LayerStack, max_len: int, *, through_adapters: bool = False) -> None:
        self._stack = stack
        self._adapter_layers = stack.means.adapter_layers if through_adapters else ()
        self._all_exits = self._adapter_layers or tuple(range(1, stack.num_loaded))
        layout = pool_layout(stack, max_len, PAGE_SIZE)
        self._pool = KVPool(LocalSegment(layout.size_bytes, stack.device), layout)
        self._table = PageTable([Extent(0, layout.num_pages)], PAGE_SIZE)

    def read(
        self,
        token_ids: Sequence[TokenId],
        start: int,
        sampling: SamplingParams = GREEDY,
        prompt_len: int = 0,
        exit_layers: Collection[int] | None = None,
    ) -> dict[int, Choices]:
        """Return the choices of every exit 1 to L, L being the last layer.

        Args:
            token_ids: the text [0, T), prompt included; T is at most max_len.
            start: choices are wanted for positions [start, T), start >= 1.
            sampling: what the text was made with.
            prompt_len: tokens [prompt_len, T) were generated, for penalties.
            exit_layers: exits wanted beside the last layer; None wants all.

        Returns:
            By exit, tokens, confidences and chances of T - start choices.
        """
        num_layers = self._stack.num_loaded
        wanted = self._all_exits if exit_layers is None else sorted(exit_layers)
        found = {exit_layer: Choices() for exit_layer in (*wanted, num_layers)}
        rows = [
            RowChoice(
                sampling,
                position,
                prompt_len,
                token_ids[:position] if sampling.needs_history else (),
            )
            for position in range(start, len(token_ids))
        ]
        # The last token is chosen, never run.
        inputs = token_ids[:-1]
        with torch.inference_mode():
            for chunk_start in range(0, len(inputs), PREFILL_CHUNK_LEN):
                chunk = inputs[chunk_start : chunk_start + PREFILL_CHUNK_LEN]
                behind = chunk_start + len(chunk) - (start - 1)
                chosen = rows[max(0, behind - len(chunk)) : max(0, behind)]
                self._read_chunk(chunk, chunk_start, chosen, found)
        return found

    def _read_chunk(
        self,
        chunk: Sequence[TokenId],
        chunk_start: int,
        chosen: Sequence[RowChoice],
        found: dict[int, Choices],
    ) -> None:
        """Run rows at positions from chunk_start on; choose from the last of them."""
        stack = self._stack
        session = SessionRows(self._table, list(chunk), chunk_start)
        rows = pack_rows([session], stack.rope_table_P1C)
        x_RD = stack.embed(rows)
        layer = 0
        for exit_layer in found:
            x_RD = stack.run(x_RD, layer, exit_layer, rows, self._pool.layers)
            layer = exit_layer
            is_last = exit_layer == stack.num_loaded
            read_RD = x_RD if is_last else self._read_exit(x_RD, exit_layer, rows)
            read_RD = read_RD[len(chunk) - len(chosen) :]
            for start in range(0, len(chosen), HEAD_CHUNK_LEN):
                part = slice(start, start + HEAD_CHUNK_LEN)
                self._choose(read_RD[part], chosen[part], exit_layer, found[exit_layer])

    def _read_exit(self, x_RD: torch.Tensor, exit_layer: int, rows: RowBatch) -> torch.Tensor:
        """Return z of an exit, for the head that drafts."""
        stack = self._stack
        if exit_layer in self._adapter_layers:
            return stack.read_through_adapter(x_RD, exit_layer, rows, self._pool.layers)
        return stack.read_exits(x_RD, [exit_layer] * x_RD.shape[0])

    def _choose(
        self, read_RD: torch.Tensor, rows: Sequence[RowChoice], exit_layer: int, found: Choices
    ) -> None:
        """Add what is chosen behind rows of an exit, or of the last layer, to what was found."""
        stack = self._stack
        if exit_layer == stack.num_loaded:
            chosen = choose(stack.head(read_RD), rows, with_confidences=True)
        else:
            chosen = choose_drafts(stack, read_RD, rows, [exit_layer] * len(rows), with_both=True)
        found.tokens += chosen.tokens
        found.confidences += chosen.confidences
        found.chances += chosen.chances
