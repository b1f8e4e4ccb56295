"""The prefix cache: which pages hold the KV of which beginnings of text. Pure accounting.

A tree of full pages. A node is one page; its path from the root spells the tokens whose KV the
pages of that path hold, so equal beginnings share pages whatever session made them:

    root --[t0 .. t15]--> page 7 --[t16 .. t31]--> page 8 --[..]--> page 9
                             \\--[u16 .. u31]--> page 20

A page is put in once its KV is final in every layer, and never written again. The cache holds one
reference of each of its pages; pages that nobody else holds are given up, the longest unused first,
leaves before what they hang on. Knows nothing of sessions; the caller keeps the references.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional

from shared.ids import TokenId

PageTokens = tuple[TokenId, ...]


@dataclass(slots=True, eq=False)
class PrefixNode:
    """One page of a beginning; the root has none."""

    page: int
    tokens: PageTokens
    parent: Optional["PrefixNode"]
    children: dict[PageTokens, "PrefixNode"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """What the cache knows of a text's beginning.

    pages: full pages, in order, all of whose tokens agree.
    tail_page, tail_len: a page behind them of which the first tokens agree: to be copied, not
        shared, as the text goes on otherwise. tail_len 0: there is none.
    """

    pages: tuple[int, ...]
    tail_page: int
    tail_len: int


class PrefixCache:
    """Pages by the text that they hold; `scope` keeps beginnings of different owners apart."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._roots: dict[str, PrefixNode] = {}
        # Least recently used first; a node is touched before the one it hangs on, so leaves lead.
        self._nodes: OrderedDict[int, PrefixNode] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def pages(self) -> list[int]:
        """All pages held."""
        return list(self._nodes)

    def match(self, tokens: Sequence[TokenId], scope: str = "") -> PrefixMatch:
        """Find the longest known beginning of a text, and mark it used.

        The last token is never matched: whoever asks must run it to go on.
        """
        path = list(self._walk(tokens[:-1], scope))
        self._touch(path)
        node = path[-1] if path else self._roots.get(scope)
        start = len(path) * self._page_size
        tail_page, tail_len = self._best_tail(node, tokens[start : len(tokens) - 1])
        return PrefixMatch(tuple(node.page for node in path), tail_page, tail_len)

    def _walk(self, tokens: Sequence[TokenId], scope: str) -> Iterator[PrefixNode]:
        """Iterate over the nodes of a text's full pages, as far as they are known."""
        node = self._roots.get(scope)
        for start in range(0, len(tokens) - self._page_size + 1, self._page_size):
            if node is None:
                return
            node = node.children.get(tuple(tokens[start : start + self._page_size]))
            if node is None:
                return
            yield node

    def _best_tail(self, node: PrefixNode | None, tokens: Sequence[TokenId]) -> tuple[int, int]:
        best_page, best_len = -1, 0
        for child in node.children.values() if node else ():
            length = _common_len(child.tokens, tokens)
            if length > best_len:
                best_page, best_len = child.page, length
        return best_page, best_len

    def insert(self, tokens: Sequence[TokenId], pages: Sequence[int], scope: str = "") -> list[int]:
        """Enter the pages of a text's beginning; return those that were not known.

        Where the cache has a page of the same text already, that one stays and the caller's own
        remains a duplicate. Of the pages returned the cache wants a reference.

        Args:
            tokens: the text; the tokens of page i are the i-th `page_size` of them.
            pages: full pages, from the first on.
        """
        node = self._roots.setdefault(scope, PrefixNode(-1, (), None))
        path, added = [], []
        for index, page in enumerate(pages):
            key = tuple(tokens[index * self._page_size : (index + 1) * self._page_size])
            child = node.children.get(key)
            if child is None:
                child = node.children[key] = PrefixNode(page, key, node)
                self._nodes[page] = child
                added.append(page)
            path.append(child)
            node = child
        self._touch(path)
        return added

    def _touch(self, path: Sequence[PrefixNode]) -> None:
        for node in reversed(path):
            self._nodes.move_to_end(node.page)

    def num_evictable(self, is_in_use: Callable[[int], bool]) -> int:
        """Count the pages that `evict` could give up."""
        pinned: set[int] = set()
        for page, node in self._nodes.items():
            if not is_in_use(page):
                continue
            upward: PrefixNode | None = node
            while upward is not None and upward.page >= 0 and upward.page not in pinned:
                pinned.add(upward.page)
                upward = upward.parent
        return len(self._nodes) - len(pinned)

    def evict(self, num_pages: int, is_in_use: Callable[[int], bool]) -> list[int]:
        """Forget up to so many pages that nobody uses, the longest unused first; return them."""
        evicted: list[int] = []
        # A page comes behind those that hang on it, so one walk reaches it as a leaf.
        for page, node in list(self._nodes.items()):
            if len(evicted) == num_pages:
                break
            if not node.children and not is_in_use(page):
                self._remove(page)
                evicted.append(page)
        return evicted

    def _remove(self, page: int) -> None:
        node = self._nodes.pop(page)
        assert node.parent is not None and not node.children
        del node.parent.children[node.tokens]
        if node.parent.page < 0 and not node.parent.children:
            self._roots = {scope: root for scope, root in self._roots.items() if root.children}


def _common_len(left: Sequence[TokenId], right: Sequence[TokenId]) -> int:
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length
