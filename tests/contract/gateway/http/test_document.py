"""The OpenAPI document tells the truth: every answer is one that it describes."""

import asyncio
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode, openapi
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shared.errors import QueueFull
from tests.contract.gateway.conftest import StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.contract.gateway.http.conftest import Served

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
COMPLETIONS = "/v1/completions"


async def document_of(url: str) -> dict[str, Any]:
    """Return the document of a server."""
    async with httpx2.AsyncClient(base_url=url) as http:
        document: dict[str, Any] = (await http.get("/openapi.json")).json()
        return document


async def check(case: Case[Any], url: str, **more: Any) -> int:
    """Send a case; return the status once the answer was found to be as described."""
    answer = await asyncio.to_thread(case.call, base_url=url, timeout=20, **more)
    case.validate_response(answer, checks=CHECKS)
    return answer.status_code


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", list(GenerationMode))
async def test_answers_are_as_the_document_says(served: Served, mode: GenerationMode) -> None:
    url = served.gateway.http_url
    strategy = openapi.from_dict(await document_of(url)).as_strategy(mode)
    cases: list[Case[Any]] = []

    @settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def keep(case: Case[Any]) -> None:
        cases.append(case)

    keep()
    statuses = {await check(case, url) for case in cases}
    assert statuses >= ({200} if mode is GenerationMode.POSITIVE else {400})


@pytest.mark.asyncio(loop_scope="module")
async def test_no_endpoint_promises_what_it_never_answers(served: Served) -> None:
    document = await document_of(served.gateway.http_url)
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
            assert {"200", "401", "500"} <= operation["responses"].keys()


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [
        ({"prompt": "So:"}, {}, 200),
        ({"prompt": "So:", "stream": True}, {}, 200),
        ({"prompt": "So:"}, {"refuses_with": QueueFull("full", retry_delay_ms=1500)}, 429),
        ({"prompt": "So:", "model": "other"}, {}, 404),
        ({"prompt": "x" * 5_000_000}, {}, 413),
        ({"prompt": "So:"}, None, 503),
    ],
    ids=["whole", "stream", "full", "model", "long", "no-cell"],
)
async def test_each_status_is_described(
    start: StartCells,
    completion_ids: list[int],
    body: dict[str, Any],
    options: dict[str, Any] | None,
    status: int,
) -> None:
    trouble = Trouble(**(options or {}))
    workers = [] if options is None else [FakeVerifyWorker(completion_ids, trouble=trouble)]
    url = (await start(*workers, http_listen="127.0.0.1:0")).gateway.http_url
    operation = openapi.from_dict(await document_of(url))[COMPLETIONS]["POST"]
    case = operation.Case(body=body, media_type="application/json")
    assert await check(case, url) == status
