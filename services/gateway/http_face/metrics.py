"""GET /metrics beside the OpenAI API: what the gateway's own metrics address tells, too."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.http_face.document import ANYWHERE, refusals
from shared.telemetry.metrics_server import MetricsServer

_TEXT = {"schema": {"type": "string"}}
_TEXTS = {
    "description": "All metrics, in the format that `Accept` asks for.",
    "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
}


def metrics_router(metrics: MetricsServer) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter()

    # No coroutine, so that it runs in a thread: streams keep their pace meanwhile.
    @router.get(
        "/metrics",
        response_class=Response,
        response_model=None,
        responses={200: _TEXTS, **refusals(*ANYWHERE)},
    )
    def scrape(request: Request) -> Response:
        body, media_type = metrics.text(request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    return router
