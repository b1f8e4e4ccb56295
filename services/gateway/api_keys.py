"""API keys at the gateway: from what a caller shows to who it is and what it may ask for. Pure.

Without any key configured everybody may call, and says itself whose tenant it is. What a caller may
ask for is laid into the limits that its request is checked against, so that every face of the
gateway (gRPC, HTTP) keeps to it in the same way:

    caller = keys.authenticate(header)             Unauthenticated, or who it is
    check_request(message, caller.narrow(limits))  NotAllowed for another tenant or priority
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.gateway.request import RequestLimits
from services.gateway.tenant_limits import TenantLimits
from shared.access.api_key import hash_key, is_key
from shared.access.key_records import KeyRecord, tenant_bound
from shared.control.fair_queue import Priority
from shared.errors import Unauthenticated

SCHEME = "bearer"
# What a tenant's bucket holds where only its rate is bounded.
BURST_S = 10.0
HOW = "send the metadata (HTTP: the header) `authorization: Bearer KEY`"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. tenant None: nobody is asked for a key, and callers name their tenants."""

    key_name: str = ""
    tenant: str | None = None
    priorities: tuple[Priority, ...] = (Priority.NORMAL, Priority.LOW)
    max_prompt_len: int = 0
    max_new_tokens: int = 0
    sees_all_tenants: bool = True

    @property
    def scope(self) -> str:
        """Whose requests it may end; as `RequestLimits.scope` of its own."""
        return self.tenant or ""

    def sees(self, tenant: str) -> bool:
        """Say whether it may watch a tenant's sessions."""
        return self.sees_all_tenants or tenant == self.tenant

    def narrow(self, limits: RequestLimits) -> RequestLimits:
        """Return what its requests may ask for."""
        max_new_tokens = _least(self.max_new_tokens, limits.max_new_tokens)
        return replace(
            limits,
            tenant=self.tenant,
            priorities=self.priorities,
            max_new_tokens=max_new_tokens,
            default_max_new_tokens=min(limits.default_max_new_tokens, max_new_tokens),
            max_prompt_len=_least(self.max_prompt_len, limits.max_prompt_len),
        )


ANYBODY = Caller()


class KeyRing:
    """All keys of a gateway at one time."""

    def __init__(
        self,
        records: Iterable[KeyRecord],
        others: TenantLimits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the records; none at all lets everybody call.

        others: what holds where a tenant's keys name no bound of its own.
        """
        records = tuple(records)
        self._by_hash = {record.hash: record for record in records}
        self._others = others or TenantLimits()
        self._clock = clock
        tenants = {record.tenant for record in records}
        self._limits = {tenant: self._limits_from(records, tenant) for tenant in tenants}

    def __len__(self) -> int:
        return len(self._by_hash)

    def authenticate(self, header: str | None) -> Caller:
        """Return who shows an authorization header.

        Raises:
            Unauthenticated: there is none, or no valid key in it; says what to send.
        """
        if not self._by_hash:
            return ANYBODY
        if not header:
            raise Unauthenticated(f"an API key is needed: {HOW}")
        scheme, _, key = header.strip().partition(" ")
        if scheme.lower() != SCHEME or not is_key(key.strip()):
            raise Unauthenticated(f"this is no API key of this service: {HOW}")
        record = self._by_hash.get(hash_key(key.strip()))
        if record is None:
            raise Unauthenticated("the API key is not known here")
        if record.disabled:
            raise Unauthenticated(f"the API key {record.name!r} was revoked")
        if record.is_expired(self._clock()):
            raise Unauthenticated(f"the API key {record.name!r} expired at {record.expires}")
        return _caller_of(record)

    def limits_of(self, tenant: str) -> TenantLimits:
        """Return a tenant's bounds."""
        return self._limits.get(tenant, self._others)

    def _limits_from(self, records: tuple[KeyRecord, ...], tenant: str) -> TenantLimits:
        others = self._others
        max_running = int(tenant_bound(records, tenant, "max_running"))
        tokens_per_s = tenant_bound(records, tenant, "tokens_per_s")
        burst_tokens = tenant_bound(records, tenant, "burst_tokens")
        if not tokens_per_s:
            tokens_per_s, burst_tokens = others.tokens_per_s, others.burst_tokens
        return TenantLimits(
            max_running or others.max_running, tokens_per_s, burst_tokens or BURST_S * tokens_per_s
        )


def _caller_of(record: KeyRecord) -> Caller:
    return Caller(
        key_name=record.name,
        tenant=record.tenant,
        priorities=tuple(Priority[name.upper()] for name in record.priorities),
        max_prompt_len=record.max_prompt_len,
        max_new_tokens=record.max_new_tokens,
        sees_all_tenants=record.sees_all_tenants,
    )


def _least(bound: int, other: int) -> int:
    """Return the smaller of two bounds; 0 is none."""
    return min(bound or other, other or bound)
