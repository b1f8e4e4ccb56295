"""Who calls the gateway, and what that caller may ask for."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.gateway.admission import Admission, AdmissionLimits, Claim
from services.gateway.api_keys import ANYBODY, KeyRing
from services.gateway.request import RequestLimits, check_request
from services.gateway.tenant_limits import TenantLimits
from services.gateway.tokenizer import ModelLimits
from shared.access.api_key import hash_key, make_key
from shared.access.key_records import KeyRecord
from shared.control.fair_queue import Priority
from shared.errors import InvalidRequest, NotAllowed, RateLimited, Unauthenticated
from shared.rpc import shortstack_pb2 as pb
from tests.unit.gateway.places import place_at

KEY = make_key()
NOW = datetime(2026, 5, 1, tzinfo=UTC)
LIMITS = RequestLimits("m", ModelLimits(100, 1000, frozenset()), 20, 50)


def record(key: str = KEY, name: str = "a-1", tenant: str = "a", **fields: object) -> KeyRecord:
    """The record of a key."""
    return KeyRecord.model_validate(
        {"name": name, "tenant": tenant, "hash": hash_key(key), **fields}
    )


def ring(*records: KeyRecord, others: TenantLimits | None = None) -> KeyRing:
    """A ring whose clock stands still."""
    return KeyRing(records, others, clock=lambda: NOW)


def test_without_keys_anybody_may_call_and_names_its_tenant() -> None:
    caller = ring().authenticate(None)
    assert caller is ANYBODY and caller.sees("whoever")
    message = pb.GenerateTextRequest(prompt="x", tenant="mine", priority=pb.PRIORITY_LOW)
    request = check_request(message, caller.narrow(LIMITS))
    assert (request.tenant, request.priority) == ("mine", Priority.LOW)


@pytest.mark.parametrize("header", ["Bearer {key}", "bearer  {key} "])
def test_a_key_says_whose_request_it_is(header: str) -> None:
    caller = ring(record()).authenticate(header.format(key=KEY))
    assert (caller.tenant, caller.key_name) == ("a", "a-1")
    assert caller.sees("a") and not caller.sees("b")
    request = check_request(pb.GenerateTextRequest(prompt="x"), caller.narrow(LIMITS))
    assert request.tenant == "a"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "an API key is needed"),
        ("", "an API key is needed"),
        ("{key}", "no API key of this service"),
        ("Basic {key}", "no API key of this service"),
        ("Bearer password", "no API key of this service"),
        ("Bearer {other}", "not known"),
    ],
)
def test_whoever_shows_no_good_key_is_told_what_to_send(header: str | None, reason: str) -> None:
    shown = header and header.format(key=KEY, other=make_key())
    with pytest.raises(Unauthenticated, match=reason):
        ring(record()).authenticate(shown)


def test_revoked_and_expired_keys_let_nobody_in() -> None:
    with pytest.raises(Unauthenticated, match="revoked"):
        ring(record(disabled=True)).authenticate(f"Bearer {KEY}")
    with pytest.raises(Unauthenticated, match="expired"):
        ring(record(expires=NOW)).authenticate(f"Bearer {KEY}")


def test_a_key_does_not_call_for_others_or_beyond_its_bounds() -> None:
    records = record(priorities=["low"], max_new_tokens=5, max_prompt_len=7)
    limits = ring(records).authenticate(f"Bearer {KEY}").narrow(LIMITS)
    assert (limits.default_max_new_tokens, limits.max_prompt_len) == (5, 7)
    request = check_request(pb.GenerateTextRequest(prompt="x", tenant="a"), limits)
    assert request.priority is Priority.LOW
    with pytest.raises(NotAllowed, match="may not call for 'b'"):
        check_request(pb.GenerateTextRequest(prompt="x", tenant="b"), limits)
    with pytest.raises(NotAllowed, match="priority normal"):
        check_request(pb.GenerateTextRequest(prompt="x", priority=pb.PRIORITY_NORMAL), limits)
    with pytest.raises(InvalidRequest, match="at most 5"):
        message = pb.GenerateTextRequest(prompt="x", stop=pb.StopParams(max_new_tokens=6))
        check_request(message, limits)


def test_a_keys_bounds_do_not_widen_the_gateways() -> None:
    wide = ring(record(max_new_tokens=1000)).authenticate(f"Bearer {KEY}").narrow(LIMITS)
    assert wide.max_new_tokens == LIMITS.max_new_tokens


def test_a_tenants_bounds_hold_for_all_its_keys_and_others_have_the_common_ones() -> None:
    others = TenantLimits(max_running=9, tokens_per_s=100.0, burst_tokens=5.0)
    keys = ring(
        record(max_running=2),
        record(make_key(), "a-2", tokens_per_s=3),
        record(make_key(), "b-1", "b"),
        others=others,
    )
    assert keys.limits_of("a") == TenantLimits(2, 3.0, 30.0)
    assert keys.limits_of("b") == others == keys.limits_of("nobody")


async def test_admission_keeps_to_each_tenants_own_bounds_and_to_new_ones() -> None:
    bounds = {"a": TenantLimits(max_running=1), "b": TenantLimits(tokens_per_s=1, burst_tokens=10)}
    admission = Admission(
        AdmissionLimits(max_running=8, max_waiting=0, timeout_s=1.0),
        limits_of=lambda tenant: bounds.get(tenant, TenantLimits()),
        clock=lambda: 0.0,
    )
    async with place_at(admission, Claim("a")), place_at(admission, Claim("c")):
        with pytest.raises(Exception, match="the gateway is busy"):
            await admission.enter(Claim("a"))
        bounds["a"] = TenantLimits(max_running=2)
        admission.note_new_limits()
        async with place_at(admission, Claim("a")):
            assert admission.num_running == 3
    with pytest.raises(RateLimited, match="1 tokens/s"):
        async with place_at(admission, Claim("b", num_tokens=8)) as place:
            place.num_used = 8
            await admission.enter(Claim("b", num_tokens=8))
    bounds["b"] = TenantLimits(tokens_per_s=1, burst_tokens=20)
    async with place_at(admission, Claim("b", num_tokens=8)):
        pass


async def test_whoever_waits_for_a_bound_runs_when_it_is_lifted() -> None:
    bounds = TenantLimits(max_running=1)
    admission = Admission(
        AdmissionLimits(max_running=8, max_waiting=8, timeout_s=5.0), limits_of=lambda _: bounds
    )
    async with place_at(admission, Claim("a")):
        waiting = asyncio.create_task(admission.enter(Claim("a")))
        await asyncio.sleep(0)
        assert admission.num_waiting == 1
        bounds = TenantLimits()
        admission.note_new_limits()
        await waiting
        assert admission.num_running == 2
        admission.leave(waiting.result())
