"""On whose account an HTTP request runs: the one place that says so."""

from starlette.requests import Request

TENANT_HEADER = "x-shortstack-tenant"


def tenant_of(request: Request) -> str:
    """Return the tenant; until callers are authenticated the client names itself."""
    return request.headers.get(TENANT_HEADER, "")
