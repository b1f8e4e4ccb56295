"""Token buckets: how many tokens a tenant may take in a second. Pure; times are arguments.

A request that takes more than a bucket holds passes when the bucket is full, and leaves it in debt:
in the long run the rate holds, and no size is refused for ever.
"""

from collections.abc import Callable

from services.gateway.tenant_limits import TenantLimits
from shared.errors import RateLimited

# Buckets kept before the full ones, which are like new, are looked for.
_MIN_KEPT = 1024


class TokenBucket:
    """One tenant's tokens."""

    def __init__(self, tokens_per_s: float, max_tokens: float, now_s: float) -> None:
        """Start full."""
        self._tokens_per_s = tokens_per_s
        self._max_tokens = max_tokens
        self._num_tokens = max_tokens
        self._at_s = now_s

    def take(self, num_tokens: int, now_s: float) -> float:
        """Take tokens and return 0, or take none and return the time until they can be taken, s."""
        self._refill(now_s)
        missing = min(num_tokens, self._max_tokens) - self._num_tokens
        if missing > 0:
            return missing / self._tokens_per_s
        self._num_tokens -= num_tokens
        return 0.0

    def give_back(self, num_tokens: int, now_s: float) -> None:
        """Put back what was taken and not used; negative for what was used beyond it."""
        self._refill(now_s)
        self._num_tokens = min(self._max_tokens, self._num_tokens + num_tokens)

    def is_full(self, now_s: float) -> bool:
        """Whether it is like a new one."""
        self._refill(now_s)
        return self._num_tokens >= self._max_tokens

    def resize(self, tokens_per_s: float, max_tokens: float, now_s: float) -> None:
        """Keep to another rate and size from now on."""
        if (tokens_per_s, max_tokens) == (self._tokens_per_s, self._max_tokens):
            return
        self._refill(now_s)
        # What is missing stays missing: a tenant that was given more does not start anew.
        self._num_tokens += max_tokens - self._max_tokens
        self._tokens_per_s, self._max_tokens = tokens_per_s, max_tokens

    def _refill(self, now_s: float) -> None:
        added = (now_s - self._at_s) * self._tokens_per_s
        self._num_tokens = min(self._max_tokens, self._num_tokens + added)
        self._at_s = now_s


class TenantBuckets:
    """A bucket for each tenant that has taken something lately."""

    def __init__(self, limits_of: Callable[[str], TenantLimits]) -> None:
        """Take what tells a tenant's rate and the size of its bucket; a rate of 0 is no bound."""
        self._limits_of = limits_of
        self._buckets: dict[str, TokenBucket] = {}
        self._num_kept = _MIN_KEPT

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, tenant: str, num_tokens: int, now_s: float) -> None:
        """Take a tenant's tokens.

        Raises:
            RateLimited: it has taken too many lately; with the exact time until they can be taken,
                if it takes no others meanwhile.
        """
        tokens_per_s = self._limits_of(tenant).tokens_per_s
        if not tokens_per_s:
            return
        wait_s = self._bucket_of(tenant, now_s).take(num_tokens, now_s)
        if wait_s:
            raise RateLimited(
                f"the tenant has used up its {tokens_per_s:g} tokens/s; this request may take"
                f" {num_tokens}",
                retry_delay_ms=int(wait_s * 1000) + 1,
            )

    def give_back(self, tenant: str, num_tokens: int, now_s: float) -> None:
        """Put back what a tenant has taken and not used."""
        if num_tokens and self._limits_of(tenant).tokens_per_s:
            self._bucket_of(tenant, now_s).give_back(num_tokens, now_s)

    def _bucket_of(self, tenant: str, now_s: float) -> TokenBucket:
        limits = self._limits_of(tenant)
        bucket = self._buckets.get(tenant)
        if bucket is not None:
            bucket.resize(limits.tokens_per_s, limits.burst_tokens, now_s)
        else:
            if len(self._buckets) >= self._num_kept:
                self._forget_full(now_s)
            bucket = TokenBucket(limits.tokens_per_s, limits.burst_tokens, now_s)
            self._buckets[tenant] = bucket
        return bucket

    def _forget_full(self, now_s: float) -> None:
        self._buckets = {
            tenant: bucket for tenant, bucket in self._buckets.items() if not bucket.is_full(now_s)
        }
        self._num_kept = max(_MIN_KEPT, 2 * len(self._buckets))
