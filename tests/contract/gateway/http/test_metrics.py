"""/metrics beside the OpenAI API: requests and refusals of the HTTP face are counted, too."""

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.contract.gateway.http.conftest import Served

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def value_of(served: Served, name: str, **labels: str) -> float:
    """Return the sum of a signal's samples that have these labels."""
    answer = await served.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return sum(
        sample.value
        for family in parse(answer.text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def test_a_completion_is_counted_with_its_times(served: Served) -> None:
    requests, times = "shortstack_gateway_requests_total", "gen_ai_server_request_duration_seconds"
    before = await value_of(served, requests, status="OK")
    await served.openai.completions.create(model="small", prompt="once", max_tokens=5)
    assert await value_of(served, requests, status="OK") == before + 1
    assert await value_of(
        served, f"{times}_count", gen_ai_operation_name="text_completion", error_type=""
    )


async def test_a_refusal_is_counted_by_its_reason(served: Served) -> None:
    refused = "shortstack_requests_refused_total"
    before = await value_of(served, refused, service="gateway", reason="InvalidRequest")
    with pytest.raises(openai.BadRequestError):
        await served.openai.completions.create(model="small", prompt="once", max_tokens=10**6)
    after = await value_of(served, refused, service="gateway", reason="InvalidRequest")
    assert after == before + 1


async def test_openmetrics_is_told_to_who_asks(served: Served) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await served.http.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
