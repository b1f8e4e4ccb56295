"""Every tenant has its own tokens, and only those that took some are remembered."""

import pytest

from services.gateway.tenant_limits import TenantLimits
from services.gateway.token_bucket import TenantBuckets
from shared.errors import RateLimited


def test_without_a_rate_nobody_is_limited_or_remembered() -> None:
    buckets = TenantBuckets(lambda tenant: TenantLimits())
    buckets.take("a", 10**9, 0.0)
    buckets.give_back("a", 10**9, 0.0)
    assert len(buckets) == 0


def test_a_bucket_never_holds_more_than_its_size() -> None:
    buckets = TenantBuckets(lambda tenant: TenantLimits(tokens_per_s=1.0, burst_tokens=10.0))
    buckets.take("a", 1, 0.0)
    buckets.give_back("a", 100, 0.0)
    buckets.take("a", 10, 1000.0)
    with pytest.raises(RateLimited) as caught:
        buckets.take("a", 2, 1000.0)
    assert caught.value.retry_delay_ms == 2001


def test_tenants_come_and_go_without_their_buckets_adding_up() -> None:
    buckets = TenantBuckets(lambda tenant: TenantLimits(tokens_per_s=1.0, burst_tokens=10.0))
    for index in range(20_000):
        buckets.take(f"tenant-{index}", 5, float(index))
    assert len(buckets) < 2000
    buckets.take("late", 10, 20_000.0)
    for index in range(3000):
        buckets.take(f"other-{index}", 1, 20_000.0)
    with pytest.raises(RateLimited):
        buckets.take("late", 10, 20_001.0)
