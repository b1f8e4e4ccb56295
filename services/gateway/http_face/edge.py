"""What every HTTP request passes first: its id, and the size of its body."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.ids import RequestId, new_request_id

# As much as a gRPC message may hold.
MAX_BODY_BYTES = 4 * 1024 * 1024
# Shorter than the gateway's own bound: choices after the first add their index to it.
MAX_ID_CHARS = 100
ID_HEADER = b"x-request-id"


class Edge:
    """Gives each request an id, which its answer carries too, and ends bodies that are too long."""

    def __init__(self, app: ASGIApp) -> None:
        """Take what answers."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (ID_HEADER, request_id.encode())]
            await send(message)

        await self._app(scope, _bounded(receive), send_with_id)


def request_id_of(request: Request) -> RequestId:
    """Return the id of a request."""
    return RequestId(request.state.request_id)


def _id_of(scope: Scope) -> RequestId:
    """Return the caller's id; a new one where there is none that could stand in logs."""
    for name, value in scope["headers"]:
        if name == ID_HEADER:
            text = value.decode("latin-1")
            if 0 < len(text) <= MAX_ID_CHARS and text.isascii() and text.isprintable():
                return RequestId(text)
    return new_request_id()


def _bounded(receive: Receive) -> Receive:
    num_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        return message

    return receive_bounded
