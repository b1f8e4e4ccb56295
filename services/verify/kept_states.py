"""States that rows of a pass leave at exits, to be read as evidence behind it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from services.verify.pass_items import PassItem, PassResult
from services.verify.shadow import CLOSING_ROW
from shared.ids import TokenId
from shared.model.rows import RowBatch
from shared.speculation.acceptance import judge


@dataclass(frozen=True, slots=True)
class KeptStates:
    """States that an item's rows left at an exit, from one of its head rows on.

    is_closing: what follows the last draft that is kept is wanted of them, and no more.
    """

    item: PassItem
    exit_layer: int
    first_row: int
    x_RD: torch.Tensor
    is_closing: bool = False


def keep_states(
    items: Sequence[PassItem], batch: RowBatch, x_RD: torch.Tensor, layer: int
) -> Iterator[KeptStates]:
    """Keep the states x_layer that items wish; all their head rows are among the active ones."""
    for item, span in zip(items, batch.spans, strict=True):
        for wish in item.reads:
            if wish.exit_layer == layer:
                first_row, is_closing = wish.first_row, wish.first_row == CLOSING_ROW
                if is_closing:
                    # Of a tree any leaf may be the last one.
                    first_row = item.num_heads - 1 if item.paths is None else 0
                start = span.row_end - item.num_heads + first_row
                yield KeptStates(item, layer, first_row, x_RD[start : span.row_end], is_closing)


def on_path(kept: Iterable[KeptStates], results: Sequence[PassResult]) -> Iterator[KeptStates]:
    """Leave out rows behind a refused draft, which tell nothing.

    Of a tree all are read, or the last one that was kept.
    """
    targets = {each.item.session.session_id: each.target_tokens for each in results}
    for each in kept:
        item = each.item
        if item.paths is not None:
            if each.is_closing:
                row = _last_kept_row(item, targets[item.session.session_id])
                each = replace(each, first_row=row, x_RD=each.x_RD[row : row + 1])
            yield each
            continue
        verdict = judge(item.token_ids[1:], targets[item.session.session_id])
        num_read = verdict.num_accepted + 1 - each.first_row
        if num_read > 0:
            yield replace(each, x_RD=each.x_RD[:num_read])


def _last_kept_row(item: PassItem, target_tokens: Sequence[TokenId]) -> int:
    """Return the row of a tree that the target's choices lead to."""
    assert item.paths is not None
    last = 0
    for row, path in enumerate(item.paths[1:], 1):
        if path[-2] == last and item.token_ids[row] == target_tokens[last]:
            last = row
    return last
