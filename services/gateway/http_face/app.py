"""The endpoints of the HTTP face: from a body to what answers it. Decides nothing."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from services.gateway.http_face import document
from services.gateway.http_face.answers import AnswerPlan, StreamedAnswer, WholeAnswer
from services.gateway.http_face.bodies import ChatBody, TextBody
from services.gateway.http_face.body_route import BodyRoute
from services.gateway.http_face.document import refusals
from services.gateway.http_face.door import Door, caller_of
from services.gateway.http_face.edge import Edge, request_id_of
from services.gateway.http_face.errors import (
    in_http_terms,
    on_bug,
    on_error,
    on_http_error,
    on_invalid_body,
    to_json,
)
from services.gateway.http_face.heading import BUILD
from services.gateway.http_face.health import Health
from services.gateway.http_face.logprobs import ChatLogprobs, TextLogprobs
from services.gateway.http_face.models import ModelList
from services.gateway.http_face.reading import Caller, prompts_of, read_body
from services.gateway.http_face.shapes import ChatChoice, Choice, TextChoice
from services.gateway.http_face.tenant import tenant_of
from services.gateway.http_face.tokens import DetokenizeBody, TokenEndpoints, TokenizeBody
from services.gateway.http_face.traced import Traced
from services.gateway.parts import GatewayParts
from shared.errors import ModelNotFound, NoCell, ShortstackError, WorkerDraining


class Endpoints:
    """The two that complete, over the gateway's own parts."""

    def __init__(self, parts: GatewayParts, comment_s: float) -> None:
        """Take the parts, and after how long a silence a stream sends a comment."""
        self._parts = parts
        self._comment_s = comment_s

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Complete a chat."""
        token_bytes = self._parts.tools.tokenizer.token_bytes

        def shape(index: int, prompt_index: int) -> Choice:
            return ChatChoice(index, ChatLogprobs(token_bytes) if body.logprobs else None)

        return self._answer(body, request, shape)

    async def complete(self, body: TextBody, request: Request) -> Response:
        """Complete one prompt or several."""
        tokenizer = self._parts.tools.tokenizer
        echoes = self._echoes_of(body)

        def shape(index: int, prompt_index: int) -> Choice:
            has_logprobs = body.logprobs is not None
            logprobs = TextLogprobs(tokenizer.token_bytes) if has_logprobs else None
            return TextChoice(index, logprobs, echoes[prompt_index])

        return self._answer(body, request, shape)

    def _answer(
        self, body: ChatBody | TextBody, request: Request, shape: Callable[[int, int], Choice]
    ) -> Response:
        limits = self._parts.limits_of(caller_of(request))
        metrics = self._parts.tools.metrics
        with metrics.refusals_counted(), in_http_terms(body.field_names):
            caller = Caller(request_id_of(request), tenant_of(request))
            asked = read_body(body, caller, limits)
        report = (body.speculation and body.speculation.report) or "none"
        plan = AnswerPlan(
            asked,
            [shape(index, asked.prompt_index(index)) for index in range(len(asked.requests))],
            limits,
            body.field_names,
            report=report,
            has_usage_chunk=bool(body.stream_options and body.stream_options.include_usage),
            has_token_sources=bool(body.stream) and report == "detailed",
        )
        if body.stream:
            return StreamedAnswer(plan, self._parts, self._comment_s)
        return WholeAnswer(plan, self._parts)

    def _echoes_of(self, body: TextBody) -> Sequence[str]:
        """Return what each prompt puts before its choices."""
        prompts = prompts_of(body)
        if not body.echo:
            return [""] * len(prompts)
        decode = self._parts.tools.tokenizer.decode
        return [each if isinstance(each, str) else decode(each) for each in prompts]


def create_app(parts: GatewayParts, comment_s: float, *routers: APIRouter) -> ASGIApp:
    """Return the HTTP face.

    Args:
        parts: what both faces speak for.
        comment_s: after so long a silence a stream sends a comment; 0: never.
        routers: further endpoints, e.g. /metrics; they pass the same edge.
    """
    app = FastAPI(
        title="Shortstack",
        version=BUILD,
        docs_url=None,
        redoc_url=None,
        # The gateway has its own.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_exception_handler(ShortstackError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid_body)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_bug)
    for router in (_completion_router(parts, comment_s), _info_router(parts), *routers):
        app.include_router(router)
    document.tell_truth(app)
    traced = Traced(app, parts.tools.tracing)
    return Edge(Door(traced, parts.authenticate, health_is_open=parts.health_is_open))


def _completion_router(parts: GatewayParts, comment_s: float) -> APIRouter:
    endpoints = Endpoints(parts, comment_s)
    router = APIRouter(default_response_class=Response, route_class=BodyRoute)
    for path, endpoint in (
        ("/v1/chat/completions", endpoints.chat),
        ("/v1/completions", endpoints.complete),
    ):
        router.post(path, response_model=None, responses=document.completions())(endpoint)
    return router


def _info_router(parts: GatewayParts) -> APIRouter:
    models = ModelList(parts, created_s=int(time.time()))
    health, tokens = Health(parts), TokenEndpoints(parts)
    router = APIRouter()

    def get(path: str, *errors: type[ShortstackError]) -> Callable[[Any], Any]:
        return router.get(
            path, response_model=None, responses=refusals(*document.ANYWHERE, *errors)
        )

    def post(path: str) -> Callable[[Any], Any]:
        answers = refusals(*document.NAMES_A_MODEL, has_body=True)
        return router.post(path, response_model=None, responses=answers)

    @get("/v1/models")
    async def list_models() -> Response:
        return _json(models.list())

    @get("/v1/models/{model_id:path}", ModelNotFound)
    async def find_model(model_id: str) -> Response:
        return _json(models.find(model_id))

    @post("/tokenize")
    async def tokenize(body: TokenizeBody) -> Response:
        return _json(await tokens.tokenize(body))

    @post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> Response:
        return _json(await tokens.detokenize(body))

    @get("/health")
    async def alive() -> Response:
        return _json(health.alive())

    @get("/ready", NoCell, WorkerDraining)
    async def ready() -> Response:
        return _json(await health.ready())

    @get("/version")
    async def version() -> Response:
        return _json(health.version())

    return router


def _json(value: Any) -> Response:
    return Response(to_json(value), media_type="application/json")
