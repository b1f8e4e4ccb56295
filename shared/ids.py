"""Identifiers, each a type of its own, so that a checker sees when one is taken for another."""

import secrets
from typing import NewType

RequestId = NewType("RequestId", str)
SessionId = NewType("SessionId", str)
CellId = NewType("CellId", str)
WorkerId = NewType("WorkerId", str)
BootId = NewType("BootId", int)
TokenId = NewType("TokenId", int)


def new_request_id() -> RequestId:
    """Return an id that no other request has."""
    return RequestId(f"req-{secrets.token_hex(8)}")


def new_session_id() -> SessionId:
    """Return an id that no other session has."""
    return SessionId(f"ses-{secrets.token_hex(8)}")


def new_worker_id(role: str) -> WorkerId:
    """Return an id for a worker process; `role` makes logs readable."""
    return WorkerId(f"{role}-{secrets.token_hex(4)}")


def new_boot_id() -> BootId:
    """Return a number that differs at every start of a process; never 0, which means none."""
    return BootId(secrets.randbits(63) | 1)
