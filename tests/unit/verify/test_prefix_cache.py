"""The prefix cache against a dictionary of beginnings, under random operations."""

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.verify.prefix_cache import PrefixCache, PrefixMatch
from shared.ids import TokenId


def ids(*values: int) -> list[TokenId]:
    return [TokenId(value) for value in values]


def never(page: int) -> bool:
    """Say that nobody uses a page."""
    return False


def cache_of(*texts: Sequence[int], page_size: int = 2) -> PrefixCache:
    """Return a cache that was told of texts in turn, each on pages of its own, from 0 on."""
    cache = PrefixCache(page_size)
    first = 0
    for text in texts:
        num_pages = len(text) // page_size
        cache.insert(ids(*text), range(first, first + num_pages))
        first += num_pages
    return cache


def test_the_longest_known_beginning_is_found() -> None:
    cache = cache_of([1, 2, 3, 4, 5, 6])
    assert cache.match(ids(1, 2, 3, 4, 5, 6, 7)) == PrefixMatch((0, 1, 2), -1, 0)
    assert cache.match(ids(1, 2, 3, 4, 8, 8, 8)) == PrefixMatch((0, 1), -1, 0)
    assert cache.match(ids(9, 2, 3)) == PrefixMatch((), -1, 0)
    assert cache.match(ids()) == PrefixMatch((), -1, 0)


@pytest.mark.parametrize(
    ("text", "pages", "tail"),
    [
        # The last token must be run: without it no text would go on.
        ([1, 2, 3, 4], (0,), (1, 1)),
        ([1, 2, 3], (0,), (-1, 0)),
        ([1, 2], (), (0, 1)),
        ([1], (), (-1, 0)),
        ([1, 2, 3, 4, 5], (0, 1), (-1, 0)),
    ],
)
def test_the_last_token_is_never_matched(
    text: list[int], pages: tuple[int, ...], tail: tuple[int, int]
) -> None:
    assert cache_of([1, 2, 3, 4]).match(ids(*text)) == PrefixMatch(pages, *tail)


def test_of_the_pages_behind_a_beginning_the_one_that_agrees_longest_is_the_tail() -> None:
    cache = PrefixCache(4)
    cache.insert(ids(1, 1, 1, 1, 2, 2, 2, 2), [0, 1])
    cache.insert(ids(1, 1, 1, 1, 2, 2, 3, 3), [9, 2])
    cache.insert(ids(1, 1, 1, 1, 4, 4, 4, 4), [9, 3])
    assert cache.match(ids(1, 1, 1, 1, 2, 2, 3, 5, 6)) == PrefixMatch((0,), 2, 3)
    assert cache.match(ids(1, 1, 1, 1, 4, 5)) == PrefixMatch((0,), 3, 1)
    assert cache.match(ids(1, 1, 1, 1, 5, 5)) == PrefixMatch((0,), -1, 0)
    # At the root as well, and only as far as the token before the last.
    assert cache.match(ids(1, 1, 1)) == PrefixMatch((), 0, 2)


def test_scopes_do_not_see_each_other() -> None:
    cache = PrefixCache(2)
    assert cache.insert(ids(1, 2), [0], "ann") == [0]
    assert cache.match(ids(1, 2, 3), "bob") == PrefixMatch((), -1, 0)
    assert cache.match(ids(1, 2, 3)) == PrefixMatch((), -1, 0)
    assert cache.insert(ids(1, 2), [1], "bob") == [1]
    assert cache.match(ids(1, 2, 3), "ann").pages == (0,)
    assert cache.match(ids(1, 2, 3), "bob").pages == (1,)


def test_a_second_page_of_one_text_stays_its_owners() -> None:
    cache = cache_of([1, 2, 3, 4])
    assert cache.insert(ids(1, 2, 3, 4, 5, 6), [7, 8, 9]) == [9]
    assert cache.match(ids(1, 2, 3, 4, 5, 6, 7)).pages == (0, 1, 9)
    assert sorted(cache.pages) == [0, 1, 9]
    assert cache.insert(ids(1, 2, 3, 4, 5, 6), [0, 1, 9]) == []


def test_leaves_go_before_what_they_hang_on_and_the_longest_unused_first() -> None:
    cache = cache_of([1, 2, 3, 4, 5, 6], [7, 8, 9, 9])
    assert cache.evict(2, never) == [2, 1]
    assert cache.evict(9, never) == [0, 4, 3]
    assert len(cache) == 0
    # A match is a use, of all that it found.
    cache = cache_of([1, 2, 3, 4], [7, 8, 9, 9])
    cache.match(ids(1, 2, 3, 4, 5))
    assert cache.evict(4, never) == [3, 2, 1, 0]


def test_what_somebody_uses_stays_and_so_does_what_it_hangs_on() -> None:
    cache = cache_of([1, 2, 3, 4, 5, 6], [1, 2, 7, 7])
    # Pages 3 is a duplicate of 0 that the cache does not hold; 4 hangs on 0.
    assert sorted(cache.pages) == [0, 1, 2, 4]
    in_use = {1}
    assert cache.num_evictable(in_use.__contains__) == 2
    assert cache.evict(9, in_use.__contains__) == [2, 4]
    assert cache.match(ids(1, 2, 3, 4, 0)).pages == (0, 1)


def test_a_text_that_was_forgotten_can_be_entered_again() -> None:
    cache = cache_of([1, 2, 3, 4])
    assert cache.evict(1, never) == [1]
    assert cache.match(ids(1, 2, 3, 4, 5)) == PrefixMatch((0,), -1, 0)
    assert cache.insert(ids(1, 2, 3, 4), [5, 6]) == [6]
    assert cache.match(ids(1, 2, 3, 4, 5)).pages == (0, 6)


PAGE_SIZE = 2
Beginning = tuple[str, tuple[int, ...]]
# Few ids, so that texts share beginnings.
texts = st.lists(st.integers(1, 2), max_size=11)
scopes = st.sampled_from(("", "ann"))


class CacheMachine(RuleBasedStateMachine):
    """The model: from every known beginning (full pages) to its page, and when it was last used."""

    @initialize()
    def start(self) -> None:
        self.cache = PrefixCache(PAGE_SIZE)
        self.known: dict[Beginning, int] = {}
        self.used_at: dict[Beginning, int] = {}
        self.in_use: set[int] = set()
        self.clock = 0
        self.num_pages = 0

    def _use(self, beginnings: Sequence[Beginning]) -> None:
        self.clock += 1
        for beginning in beginnings:
            self.used_at[beginning] = self.clock

    def _path(self, text: Sequence[int], scope: str) -> list[Beginning]:
        """Return the known beginnings of a text, in full pages, from the shortest on."""
        path = []
        for end in range(PAGE_SIZE, len(text) + 1, PAGE_SIZE):
            if (scope, tuple(text[:end])) not in self.known:
                break
            path.append((scope, tuple(text[:end])))
        return path

    @rule(text=texts, scope=scopes)
    def insert(self, text: list[int], scope: str) -> None:
        num_pages = len(text) // PAGE_SIZE
        pages = list(range(self.num_pages, self.num_pages + num_pages))
        self.num_pages += num_pages
        added = []
        for index, page in enumerate(pages):
            beginning = (scope, tuple(text[: (index + 1) * PAGE_SIZE]))
            if beginning not in self.known:
                self.known[beginning] = page
                added.append(page)
        assert self.cache.insert(ids(*text), pages, scope) == added
        self._use(self._path(text, scope))

    @rule(text=texts, scope=scopes)
    def match(self, text: list[int], scope: str) -> None:
        found = self.cache.match(ids(*text), scope)
        path = self._path(text[:-1], scope)
        assert found.pages == tuple(self.known[each] for each in path)
        start = PAGE_SIZE * len(path)
        rest, start_text = text[start:-1], tuple(text[:start])
        lens = {
            self.known[other]: _common(other[1][start:], rest)
            for other in self.known
            if other[0] == scope
            and len(other[1]) == start + PAGE_SIZE
            and other[1][:start] == start_text
        }
        assert found.tail_len == max(lens.values(), default=0)
        assert not found.tail_len or lens[found.tail_page] == found.tail_len
        self._use(path)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def take_into_use(self, data: st.DataObject) -> None:
        # Whoever uses a page got it by a match: with all that it hangs on.
        beginning = data.draw(st.sampled_from(sorted(self.known)))
        self.in_use |= {self.known[each] for each in self._path(beginning[1], beginning[0])}

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def use_a_page_alone(self, data: st.DataObject) -> None:
        # Or it made the page behind duplicates of what that hangs on.
        self.in_use.add(data.draw(st.sampled_from(sorted(self.known.values()))))

    @rule()
    def put_down(self) -> None:
        self.in_use.clear()

    def _pinned(self) -> set[Beginning]:
        """Return what is in use, and what that hangs on."""
        used = [each for each, page in self.known.items() if page in self.in_use]
        return {each for scope, text in used for each in self._path(text, scope)}

    @rule(num_pages=st.integers(0, 6))
    def evict(self, num_pages: int) -> None:
        can_go = set(self.known) - self._pinned()
        evicted = self.cache.evict(num_pages, self.in_use.__contains__)
        assert len(evicted) == min(num_pages, len(can_go))
        beginning_of = {page: each for each, page in self.known.items()}
        for page in evicted:
            scope, text = beginning = beginning_of[page]
            assert page not in self.in_use
            behind = [
                each
                for each in self.known
                if each[0] == scope and len(each[1]) > len(text) and each[1][: len(text)] == text
            ]
            assert not behind, "a page went before those that hang on it"
            older = [each for each in can_go if self.used_at[each] < self.used_at[beginning]]
            assert not older, "something unused for longer stayed"
            del self.known[beginning], self.used_at[beginning]
            can_go.remove(beginning)

    @invariant()
    def accounts_agree(self) -> None:
        if not hasattr(self, "cache"):
            return
        assert sorted(self.cache.pages) == sorted(self.known.values())
        assert len(self.cache) == len(self.known)
        can_go = len(self.known) - len(self._pinned())
        assert self.cache.num_evictable(self.in_use.__contains__) == can_go


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    differing = [index for index, (a, b) in enumerate(pairs) if a != b]
    return differing[0] if differing else min(len(left), len(right))


CacheMachine.TestCase.settings = settings(max_examples=80, deadline=None, derandomize=True)
TestCacheMachine = CacheMachine.TestCase
