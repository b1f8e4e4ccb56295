"""On whose account an HTTP request runs: the one place that says so."""

from starlette.requests import Request

TENANT_HEADER = "x-shortstack-tenant"


def tenant_of(request: Request) -> str:
    """Return the tenant that the client names; with API keys it may only be the key's."""
    return request.headers.get(TENANT_HEADER, "")
