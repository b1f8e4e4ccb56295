"""Token trees: drafts that branch. Pure: no tensors, no model.

    node      0   1   2   3   4       in the order of their rows; a parent precedes its children
    parent   -1  -1   0   0   2       -1 is the pending token
    row       1   2   3   4   5       row 0 is the pending token

    pending ─┬─ 0 ─┬─ 2 ── 4          depth 1: nodes 0, 1; depth 2: 2, 3; depth 3: 4
             └─ 1  └─ 3

Row r lies in the slot of position n - 1 + r, whatever its depth, and is computed as the token at
position n - 1 + depth that sees the positions before n - 1, its ancestors and itself. The first
child of a node is what the draft itself chose there; the others are its next best. All nodes of a
depth share the position being chosen, and with it the noise, so the walk down a tree emits what
plain decoding would (drafter-invariant coupling: Daliri et al. 2024, arXiv:2408.07978; verifying
trees in one pass: Miao et al. 2023, arXiv:2305.09781).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from shared.ids import TokenId
from shared.speculation.vocabulary import Decision

PENDING = -1

# The rows from the pending token's to one row, both included: what that row sees of its round.
RowPath = tuple[int, ...]


def row_paths(parents: Sequence[int]) -> list[RowPath]:
    """Return the path of every row, that of the pending token first; a path ends with its row."""
    paths: list[RowPath] = [(0,)]
    for node, parent in enumerate(parents):
        paths.append((*paths[parent + 1], node + 1))
    return paths


def depths_of(parents: Sequence[int]) -> list[int]:
    """Return the depth of every node, from 1."""
    depths: list[int] = []
    for parent in parents:
        depths.append(1 if parent == PENDING else depths[parent] + 1)
    return depths


def is_first_child(node: int, parents: Sequence[int]) -> bool:
    """Say whether a node is what the draft itself chose behind its parent."""
    return parents.index(parents[node]) == node


def is_chain(parents: Sequence[int]) -> bool:
    """Say whether every node hangs from the one before it."""
    return all(parent == node - 1 for node, parent in enumerate(parents))


def rows_of(path: Sequence[int], num_rows: int) -> list[int]:
    """Return the first rows behind which committed tokens were chosen: the pending token's first.

    path: the nodes of a tree that were accepted; empty for a chain, where row i comes i-th.
    """
    if not path:
        return list(range(num_rows))
    return [0, *(node + 1 for node in path)][:num_rows]


def moves_of(path: Sequence[int]) -> list[tuple[int, int]]:
    """Return where the rows of committed nodes lie and where they belong, as offsets from n.

    What lies in its place already is left out.
    """
    return [(node, place) for place, node in enumerate(path) if node != place]


def draft_fault(draft_tokens: Sequence[TokenId], parents: Sequence[int], decision: Decision) -> str:
    """Return in which way a draft is not what was asked for; nothing: an empty text.

    Args:
        draft_tokens: as a peer sent them.
        parents: likewise; empty for a chain.
        decision: of the round.
    """
    num_drafts = len(draft_tokens)
    if not 1 <= num_drafts <= decision.max_nodes:
        return f"{num_drafts} draft tokens where 1 to {decision.max_nodes} were asked"
    if not parents:
        longest = decision.max_draft_len
        return "" if num_drafts <= longest else f"a chain of {num_drafts}, longer than {longest}"
    if decision.tree is None:
        return "a tree where a chain was asked"
    if len(parents) != num_drafts:
        return f"{len(parents)} parents of {num_drafts} draft tokens"
    for node, parent in enumerate(parents):
        if not PENDING <= parent < node:
            return f"the parent of node {node} is {parent}"
    if max(depths_of(parents)) > decision.max_draft_len:
        return f"a tree deeper than {decision.max_draft_len}"
    return _siblings_fault(draft_tokens, parents, decision.tree.max_width)


def _siblings_fault(draft_tokens: Sequence[TokenId], parents: Sequence[int], max_width: int) -> str:
    children = sorted(zip(parents, draft_tokens, strict=True))
    if any(one == next_one for one, next_one in pairwise(children)):
        return "two children of a node are the same token"
    if max(Counter(parents).values()) > max_width:
        return f"a node with more than {max_width} children"
    return ""
