"""What is known of each API key: one JSON object a line. Pure: text in, records or faults out.

    {"name": "acme-web", "tenant": "acme", "hash": "sha256:...", "max_running": 8}

Bounds of a tenant (running requests, tokens per second, burst) hold for all its keys together: they
may stand at any of them, and must not differ where they stand twice. All other bounds are a key's.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

MAX_NAME_CHARS = 64
TENANT_BOUNDS = ("max_running", "tokens_per_s", "burst_tokens")

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS)]
PriorityName = Literal["normal", "low"]


class KeyFaults(Exception):
    """All faults of a text of records, one per line."""


class KeyRecord(BaseModel):
    """One key; a bound of 0 leaves it to the gateway's settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    tenant: Name
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    disabled: bool = False
    expires: AwareDatetime | None = None
    priorities: tuple[PriorityName, ...] = Field(("normal", "low"), min_length=1)
    max_running: int = Field(0, ge=0)
    tokens_per_s: float = Field(0.0, ge=0)
    burst_tokens: int = Field(0, ge=0)
    max_prompt_len: int = Field(0, ge=0)
    max_new_tokens: int = Field(0, ge=0)
    # Whose key may watch every tenant's sessions: operators and their dashboards.
    sees_all_tenants: bool = False

    def is_expired(self, now: datetime) -> bool:
        """Say whether its time is over."""
        return self.expires is not None and self.expires <= now

    def to_line(self) -> str:
        """Return the record as a line, without what says nothing."""
        return self.model_dump_json(exclude_defaults=True) + "\n"


def parse_records(text: str) -> tuple[KeyRecord, ...]:
    """Read records, one a line; empty lines are passed over.

    Raises:
        KeyFaults: every fault with its line; contradictions between lines too.
    """
    faults: list[str] = []
    records: list[KeyRecord] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(_parse_line(line))
        except KeyFaults as error:
            faults += [f"line {number}: {fault}" for fault in str(error).splitlines()]
    faults += _contradictions(records)
    if faults:
        raise KeyFaults("\n".join(faults))
    return tuple(records)


def check_records(records: Sequence[KeyRecord]) -> None:
    """Refuse records that contradict each other.

    Raises:
        KeyFaults: names all of them.
    """
    if faults := _contradictions(records):
        raise KeyFaults("\n".join(faults))


def tenant_bound(records: Iterable[KeyRecord], tenant: str, bound: str) -> float:
    """Return one of a tenant's bounds, wherever it stands; 0: none."""
    own = (getattr(record, bound) for record in records if record.tenant == tenant)
    return float(max(own, default=0))


def _parse_line(line: str) -> KeyRecord:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise KeyFaults(f"no JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise KeyFaults("no JSON object")
    try:
        record = KeyRecord.model_validate_json(line)
    except ValidationError as error:
        raise KeyFaults("\n".join(_describe(fault) for fault in error.errors())) from None
    names = [record.name, record.tenant]
    if bad := [name for name in names if not name.isprintable()]:
        raise KeyFaults(f"{bad[0]!r} would not look the same in a log; use printable characters")
    return record


def _describe(fault: object) -> str:
    assert isinstance(fault, dict)
    field = ".".join(map(str, fault["loc"])) or "the object"
    # Without the input: a key that was written in the place of its hash must not reach a log.
    return f"{field}: {fault['msg']}"


def _contradictions(records: Sequence[KeyRecord]) -> list[str]:
    faults = [f"two keys are called {name!r}" for name in _repeated(each.name for each in records)]
    for hash_ in _repeated(each.hash for each in records):
        names = " and ".join(repr(each.name) for each in records if each.hash == hash_)
        faults.append(f"{names} are the same key")
    for tenant in sorted({record.tenant for record in records}):
        own = [record for record in records if record.tenant == tenant]
        for bound in TENANT_BOUNDS:
            values = sorted({getattr(each, bound) for each in own if getattr(each, bound)})
            if len(values) > 1:
                told = " and ".join(map(str, values))
                faults.append(f"{bound} of tenant {tenant!r} is {told}; it has one")
        has_rate = tenant_bound(own, tenant, "tokens_per_s") > 0
        if tenant_bound(own, tenant, "burst_tokens") and not has_rate:
            faults.append(f"burst_tokens of tenant {tenant!r} needs its tokens_per_s")
    return faults


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, num in Counter(values).items() if num > 1]
