"""The door of the HTTP face: who calls is found out before a body is read."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.api_keys import Caller
from services.gateway.http_face.errors import error_response
from shared.errors import Unauthenticated

# What tells nothing of anybody's requests.
OPEN_PATHS = frozenset({"/health", "/ready", "/version", "/metrics"})
# The files of the web page: what it shows it asks for itself, with a key.
PAGE, PAGE_FILES = "/", "/page/"


class Door:
    """Lets in who shows a valid key; the others are told what to send."""

    def __init__(
        self, app: ASGIApp, authenticate: Callable[[str | None], Caller], *, health_is_open: bool
    ) -> None:
        """Take what answers, what knows the keys, and whether some paths need none."""
        self._app = app
        self._authenticate = authenticate
        self._open_paths = OPEN_PATHS if health_is_open else frozenset[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["caller"] = self._authenticate(_header_of(scope))
        except Unauthenticated as error:
            answer = error_response(error)
            answer.headers["www-authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open_paths or path == PAGE or path.startswith(PAGE_FILES)


def caller_of(request: Request) -> Caller:
    """Return who makes a request that was let in."""
    caller = request.state.caller
    assert isinstance(caller, Caller), "the door knows everybody that it lets in"
    return caller


def _header_of(scope: Scope) -> str | None:
    """Return the one authorization header.

    Raises:
        Unauthenticated: there are several; which of them was meant?
    """
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) > 1:
        raise Unauthenticated("send one authorization header, not several")
    return values[0].decode("latin-1") if values else None
