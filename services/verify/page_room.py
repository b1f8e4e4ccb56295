"""Room among pages: those that only the prefix cache holds are given up where too few are free."""

from services.verify.prefix_cache import PrefixCache
from shared.errors import PoolExhausted
from shared.model.page_allocator import PageAllocator
from shared.speculation.vocabulary import Extent


def make_room(
    allocator: PageAllocator, prefixes: PrefixCache, num_pages: int, num_spare: int = 0
) -> int:
    """Have so many pages free, and some to spare; return how many the cache gave up for that.

    Raises:
        PoolExhausted: there are too few; nothing was given up.
    """
    short = num_pages + num_spare - allocator.num_free
    if short <= 0:
        return 0
    if short > prefixes.num_evictable(allocator.is_shared):
        raise PoolExhausted(
            f"{num_pages} pages wanted and {num_spare} to spare, "
            f"{allocator.num_free} of {allocator.num_pages} free"
        )
    evicted = prefixes.evict(short, allocator.is_shared)
    allocator.release(Extent(page, 1) for page in evicted)
    return len(evicted)
