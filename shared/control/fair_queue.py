"""Fair queue: whose turn it is among items of several tenants. Pure: no clock, no waiting.

Deficit round robin (Shreedhar and Varghese 1995), charged in tokens, with the quantum taken as
small as can be: the tenant that lacks least for its next item goes next. Whenever it is granted
what it lacks, every tenant that competed is granted as much. So

    tokens granted = tokens charged + deficit,    0 <= deficit <= cost of the next item

and as long as two tenants compete, what they were charged differs by at most one item's cost. A
tenant with nothing in the queue is granted nothing and keeps no credit.

Items of low priority compete only while no normal one does, but a low one that has waited long
enough counts as normal. Of one tenant's items, those of one priority leave in order of arrival.
"""

from collections.abc import Iterator
from typing import Generic

from shared.control.tenant_account import Entry, ItemT, Priority, TenantAccount

__all__ = ["FairQueue", "ItemT", "Priority"]


class FairQueue(Generic[ItemT]):
    """Items of tenants, in the order in which they are to be served; how many, the caller says.

    Times are seconds of any clock that does not go back.
    """

    def __init__(self, ageing_s: float) -> None:
        """Start empty; a low item that has waited `ageing_s` counts as normal."""
        self._ageing_s = ageing_s
        self._accounts: dict[str, TenantAccount[ItemT]] = {}
        self._entries: dict[ItemT, Entry[ItemT]] = {}
        self._next: Entry[ItemT] | None = None
        self._num_pushed = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ItemT]:
        """Iterate in order of arrival."""
        return iter(self._entries)

    def __contains__(self, item: ItemT) -> bool:
        return item in self._entries

    def push(self, item: ItemT, tenant: str, priority: Priority, cost: int, now_s: float) -> None:
        """Add an item.

        Args:
            item: what `pop` is to return; in the queue at most once.
            tenant: on whose account it runs.
            priority: low items wait for normal ones.
            cost: tokens it will take, at least 1; corrected afterwards by `charge` or `refund`.
            now_s: the time.
        """
        if item in self._entries:
            raise ValueError(f"{item!r} is in the queue")
        if cost < 1:
            raise ValueError(f"a cost of {cost} tokens; it must be at least 1")
        entry = Entry(item, tenant, priority, cost, now_s, self._num_pushed)
        self._num_pushed += 1
        account = self._accounts.setdefault(tenant, TenantAccount(self._ageing_s))
        account.add(entry)
        self._entries[item] = entry
        self._next = None

    def peek(self, now_s: float) -> ItemT | None:
        """Return the item whose turn it is; the same one until the queue changes.

        None when the queue is empty or holds only items of tenants that are held back.
        """
        if self._next is None:
            competing = self._competing(now_s)
            self._next = min(competing, key=self._lack_of, default=None)
        return self._next.item if self._next else None

    def pop(self, now_s: float) -> ItemT:
        """Take out the item whose turn it is and charge its tenant.

        Raises:
            LookupError: `peek` returns None.
        """
        self.peek(now_s)
        entry = self._next
        if entry is None:
            raise LookupError("nothing in the queue has its turn")
        granted = max(0, entry.cost - self._accounts[entry.tenant].deficit)
        self._grant(granted, {each.tenant for each in self._competing(now_s)} | {entry.tenant})
        account = self._accounts[entry.tenant]
        account.deficit -= entry.cost
        account.num_charged += entry.cost
        self._take_out(entry)
        return entry.item

    def remove(self, item: ItemT) -> None:
        """Take out an item without charging for it.

        Raises:
            KeyError: it is not in the queue.
        """
        self._take_out(self._entries[item])

    def charge(self, tenant: str, num_tokens: int) -> None:
        """Charge what an item took beyond its cost; remembered until others were granted as much.

        Forgotten when the queue is empty, as nobody is waiting who could have had it.
        """
        if num_tokens <= 0 or not self._entries:
            return
        account = self._accounts.setdefault(tenant, TenantAccount(self._ageing_s))
        account.deficit -= num_tokens
        account.num_charged += num_tokens
        self._next = None

    def refund(self, tenant: str, num_tokens: int) -> None:
        """Give back what an item did not take of its cost.

        Only what was charged since the tenant last had nothing waiting: the idle keep no credit.
        """
        account = self._accounts.get(tenant)
        if account is None or num_tokens <= 0:
            return
        num_refunded = min(num_tokens, account.num_charged)
        account.deficit += num_refunded
        account.num_charged -= num_refunded
        self._close_if_idle(tenant)
        self._next = None

    def set_held(self, tenant: str, is_held: bool) -> None:
        """Hold a tenant's items back, or no longer; meanwhile it is granted nothing."""
        account = self._accounts.setdefault(tenant, TenantAccount(self._ageing_s))
        account.is_held = is_held
        self._close_if_idle(tenant)
        self._next = None

    def num_waiting_of(self, tenant: str) -> int:
        """Return how many items a tenant has in the queue."""
        account = self._accounts.get(tenant)
        return account.num_waiting if account else 0

    def num_before(self, tenant: str, priority: Priority, cost: int, now_s: float) -> int:
        """Return how many items would be served before one that is pushed now.

        As things stand: without those that come later, and without the ageing of those that wait.
        Items of tenants that are held back do not count.
        """
        own = self._accounts.get(tenant) or TenantAccount(self._ageing_s)
        first, ahead, deficit = self._standing(own, priority, now_s)
        num_granted = cost + sum(ahead) - deficit
        num_before = first + len(ahead)
        for name, rival in self._accounts.items():
            if name == tenant or rival.is_held:
                continue
            first, costs, deficit = self._standing(rival, priority, now_s)
            num_before += first + _num_within(num_granted + deficit, costs)
        return num_before

    def overfull(self, tenant: str, cost: int) -> ItemT | None:
        """Return the item that should make room for one of `tenant`, if any should.

        It is the newest, low ones first, of the tenant with most tokens waiting, provided that
        `tenant` would have fewer waiting even with the new item.
        """
        own = self._accounts.get(tenant)
        wanted = cost + (own.waiting_cost if own else 0)
        heaviest = max(self._accounts.values(), key=lambda each: each.waiting_cost, default=None)
        if heaviest is None or heaviest.waiting_cost <= wanted:
            return None
        return heaviest.newest().item

    def _competing(self, now_s: float) -> list[Entry[ItemT]]:
        """Return what each tenant has first in the best class that anybody has something in."""
        accounts = [account for account in self._accounts.values() if not account.is_held]
        found = [entry for account in accounts if (entry := account.first_normal(now_s))]
        if not found:
            found = [entry for account in accounts if (entry := account.first_low())]
        return found

    def _lack_of(self, entry: Entry[ItemT]) -> tuple[int, int]:
        """Return what is compared: tokens that the tenant lacks for the entry, then its arrival."""
        return entry.cost - self._accounts[entry.tenant].deficit, entry.index

    def _grant(self, num_tokens: int, competing: set[str]) -> None:
        """Grant tokens to all who compete; to those without items, as far as they are in debt."""
        for tenant, account in list(self._accounts.items()):
            if tenant in competing:
                account.deficit += num_tokens
            elif account.is_idle:
                account.deficit = min(0, account.deficit + num_tokens)
                self._close_if_idle(tenant)

    def _take_out(self, entry: Entry[ItemT]) -> None:
        del self._entries[entry.item]
        self._accounts[entry.tenant].take_out(entry)
        self._next = None
        self._close_if_idle(entry.tenant)
        if not self._entries:
            for tenant, account in list(self._accounts.items()):
                account.deficit = 0
                self._close_if_idle(tenant)

    def _close_if_idle(self, tenant: str) -> None:
        """Forget a tenant without items, its credit with it; debts stay, and so does being held."""
        account = self._accounts[tenant]
        if not account.is_idle:
            return
        account.deficit = min(0, account.deficit)
        account.num_charged = 0
        if not account.deficit and not account.is_held:
            del self._accounts[tenant]

    def _standing(
        self, account: TenantAccount[ItemT], priority: Priority, now_s: float
    ) -> tuple[int, list[int], int]:
        """Return what of a tenant's is served before an item of a priority.

        Before a low item all that counts as normal is served, whatever it costs; the tokens granted
        for that are used up with it.

        Returns:
            The number served first in any case, the costs of what competes with the item, and the
            tenant's deficit when it does.
        """
        normal, low = account.costs(now_s)
        if priority is Priority.NORMAL:
            return 0, normal, account.deficit
        deficit = max(0, account.deficit - sum(normal)) if normal else account.deficit
        return len(normal), low, deficit


def _num_within(num_tokens: int, costs: list[int]) -> int:
    """Return how many of the costs, from the first on, so many tokens pay for."""
    num_paid = 0
    for cost in costs:
        num_tokens -= cost
        if num_tokens < 0:
            break
        num_paid += 1
    return num_paid
