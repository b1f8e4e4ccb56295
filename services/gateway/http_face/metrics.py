"""GET /metrics beside the OpenAI API: what the gateway's own metrics address tells, too."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from shared.telemetry.metrics_server import MetricsServer


def metrics_router(metrics: MetricsServer) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter()

    # No coroutine, so that it runs in a thread: streams keep their pace meanwhile.
    @router.get("/metrics", response_model=None)
    def scrape(request: Request) -> Response:
        body, media_type = metrics.text(request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    return router
