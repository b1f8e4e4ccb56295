"""What the model less a skip set would have chosen along tokens that are there already.

    positions   0 ........... a-1 | a ............... a+W-1
    KV          the session's own | the workspace's: written here, layer by layer
    rows                          | y[a] ........... y[a+W-1]     teacher-forced
    choices                       | c[a+1] ......... c[a+W]       as a draft would make them

Read-only for the session: its pages hold [0, a) and are not written; the rows' keys and values go
to pages that the caller lends.
"""

from collections.abc import Sequence

from shared.ids import TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack
from shared.model.page_table import PageTable
from shared.model.rows import SessionRows, pack_rows
from shared.model.sampling import RowChoice
from shared.model.shadow_reads import KeptRows, read_kept
from shared.speculation.skip_set import SkipSet

# Drafts of a skip set have no exit, and so none of the adapters.
NO_EXIT = 0


class SkipScorer:
    """Runs windows on a layer stack in a pool; whoever owns these calls it."""

    def __init__(self, stack: LayerStack, pool: KVPool) -> None:
        self._stack = stack
        self._pool = pool

    def choices(
        self,
        skip_set: SkipSet,
        table: PageTable,
        tokens: Sequence[TokenId],
        start: int,
        rows: Sequence[RowChoice],
    ) -> list[TokenId]:
        """Return the choice behind every token.

        Args:
            skip_set: what is left out.
            table: pages whose positions [0, start) hold KV of all layers; those of the tokens are
                overwritten.
            tokens: at positions [start, start + len(tokens)).
            rows: what choosing behind each of them needs; its position is that of the choice.
        """
        stack = self._stack
        batch = pack_rows([SessionRows(table, list(tokens), start)], stack.rope_table_P1C)
        x_RD = stack.run_without(skip_set, stack.embed(batch), batch, self._pool.layers)
        (chosen,) = read_kept(stack, [KeptRows(NO_EXIT, x_RD, rows)])
        return chosen.tokens
