"""`shortstack keys`: make, list, check and revoke the API keys of a gateway's file."""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shared.access.api_key import hash_key, is_key, make_key
from shared.access.key_file import read_key_file, write_key_file
from shared.access.key_records import KeyFaults, KeyRecord, parse_records
from shortstack.errors import CommandError, UsageError

PATH_VARIABLE = "SHORTSTACK_GATEWAY__API_KEYS_PATH"

File = Annotated[
    Path | None,
    typer.Option("--file", help=f"File of keys; default: {PATH_VARIABLE}.", metavar="FILE"),
]


def new(
    tenant: Annotated[str, typer.Argument(help="Whose requests the key makes.")],
    file: File = None,
    name: Annotated[str, typer.Option(help="Name of the key; default: one of the tenant's.")] = "",
    days: Annotated[int, typer.Option(min=0, help="Days until it expires; 0: never.")] = 0,
    max_running: Annotated[int, typer.Option(min=0, help="The tenant's requests at a time.")] = 0,
    tokens_per_s: Annotated[float, typer.Option(min=0, help="The tenant's tokens a second.")] = 0,
    burst_tokens: Annotated[int, typer.Option(min=0, help="Tokens it may save up.")] = 0,
    max_prompt_len: Annotated[int, typer.Option(min=0, help="Longest prompt in tokens.")] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=0, help="Most new tokens of a request.")] = 0,
    only_low: Annotated[bool, typer.Option(help="Its requests have low priority.")] = False,
    sees_all_tenants: Annotated[
        bool, typer.Option(help="It may watch every tenant's sessions.")
    ] = False,
) -> None:
    """Make a key, keep its hash, print the key: once, and nowhere else."""
    path = _path_of(file)
    records = _read(path) if path.exists() else ()
    key = make_key()
    fields: dict[str, object] = {
        "name": name or _free_name(records, tenant),
        "tenant": tenant,
        "hash": hash_key(key),
        "expires": datetime.now(UTC) + timedelta(days=days) if days else None,
        "priorities": ("low",) if only_low else ("normal", "low"),
        "max_running": max_running,
        "tokens_per_s": tokens_per_s,
        "burst_tokens": burst_tokens,
        "max_prompt_len": max_prompt_len,
        "max_new_tokens": max_new_tokens,
        "sees_all_tenants": sees_all_tenants,
    }
    _write(path, (*records, _record_of(fields)))
    print(f"{fields['name']} was added to {path}; the key is shown only now:", file=sys.stderr)
    print(key)


def show(file: File = None) -> None:
    """List the keys of a file."""
    table = Table("name", "tenant", "state", "expires", "bounds", "hash")
    now = datetime.now(UTC)
    for record in _read(_path_of(file)):
        expires = record.expires.strftime("%Y-%m-%d %H:%M") if record.expires else "never"
        short_hash = record.hash.removeprefix("sha256:")[:8]
        table.add_row(
            record.name, record.tenant, _state(record, now), expires, _bounds(record), short_hash
        )
    Console().print(table)


def check(file: File = None) -> None:
    """Look for faults in a file; with a key on stdin, say whether that one is good."""
    path = _path_of(file)
    records = _read(path)
    print(f"{path}: {len(records)} keys, no fault")
    if sys.stdin.isatty() or not (text := sys.stdin.readline().strip()):
        return
    hash_ = hash_key(text) if is_key(text) else ""
    found = next((record for record in records if record.hash == hash_), None)
    if found is None:
        raise CommandError("the key on stdin is not in the file")
    state = _state(found, datetime.now(UTC))
    print(f"the key on stdin is {found.name}, of tenant {found.tenant}: {state}")
    if state != "valid":
        raise typer.Exit(1)


def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key.")], file: File = None
) -> None:
    """Let a key in no more; its running requests end by themselves."""
    path = _path_of(file)
    records = _read(path)
    if name not in {record.name for record in records}:
        raise UsageError(f"{path} has no key called {name!r}")
    changed = (
        record.model_copy(update={"disabled": True}) if record.name == name else record
        for record in records
    )
    _write(path, tuple(changed))
    print(f"{name} is revoked; gateways take note within seconds")


def _path_of(file: Path | None) -> Path:
    path = file or Path(os.environ.get(PATH_VARIABLE, ""))
    if path == Path():
        raise UsageError(f"name the file with --file, or set {PATH_VARIABLE}")
    return path


def _read(path: Path) -> tuple[KeyRecord, ...]:
    try:
        return read_key_file(path)
    except KeyFaults as error:
        raise CommandError(str(error)) from None


def _write(path: Path, records: tuple[KeyRecord, ...]) -> None:
    try:
        write_key_file(path, records)
    except KeyFaults as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None


def _record_of(fields: dict[str, object]) -> KeyRecord:
    """Return the record as a gateway would read it."""
    try:
        return parse_records(json.dumps(fields, default=str))[0]
    except KeyFaults as error:
        raise UsageError(str(error).removeprefix("line 1: ")) from None


def _free_name(records: tuple[KeyRecord, ...], tenant: str) -> str:
    names = {record.name for record in records}
    numbers = range(1, len(names) + 2)
    return next(name for number in numbers if (name := f"{tenant}-{number}") not in names)


def _state(record: KeyRecord, now: datetime) -> str:
    if record.disabled:
        return "revoked"
    return "expired" if record.is_expired(now) else "valid"


def _bounds(record: KeyRecord) -> str:
    bounds = ("max_running", "tokens_per_s", "burst_tokens", "max_prompt_len", "max_new_tokens")
    parts = [f"{each}={getattr(record, each):g}" for each in bounds if getattr(record, each)]
    if record.priorities == ("low",):
        parts.append("low priority")
    if record.sees_all_tenants:
        parts.append("sees all tenants")
    return ", ".join(parts)
