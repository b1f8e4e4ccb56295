"""Completions over HTTP in the trace of their caller."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from services.gateway.main import Gateway
from services.gateway.settings import GatewayServiceSettings, GatewaySettings
from shared.settings import ModelSettings, TelemetrySettings
from shared.telemetry import spans
from shared.telemetry.past_span import SpanKey
from shortstack.traces.receiver import SpanReceiver
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.polling import poll_until
from tests.received_spans import ReceivedSpans, check_with_table

TRACE = SpanKey(0xABC, 0xDEF)
TRACE_ID = f"{TRACE.trace_id:032x}"
BODY = {"prompt": "So:", "max_tokens": 8}


class Traced(ReceivedSpans):
    """A gateway that traces, called as the trace has it."""

    http: httpx2.AsyncClient
    worker: FakeVerifyWorker

    async def post(self, **fields: object) -> httpx2.Response:
        """Ask for a text; return the answer once the request's spans have come."""
        answer = await self.http.post("/v1/completions", json={**BODY, **fields})
        await poll_until(lambda: self.of(TRACE_ID, "POST /v1/completions"))
        check_with_table(self.spans, "small")
        return answer


@pytest.fixture
async def traced(tmp_path: Path, completion_ids: list[int]) -> AsyncIterator[Traced]:
    """Serve HTTP before a fake cell, and receive the spans."""
    traced = Traced()
    traced.worker = FakeVerifyWorker(completion_ids)
    await traced.worker.start()
    async with SpanReceiver("127.0.0.1:0", traced.spans.extend) as receiver:
        gateway = Gateway(
            GatewayServiceSettings(
                model=ModelSettings(path=tmp_path, name="small"),
                telemetry=TelemetrySettings(endpoint=receiver.address),
                gateway=GatewaySettings(
                    listen="127.0.0.1:0", http_listen="127.0.0.1:0", cells=traced.worker.address
                ),
            )
        )
        await gateway.start()
        headers = {"Traceparent": TRACE.traceparent}
        async with httpx2.AsyncClient(base_url=gateway.http_url, headers=headers) as traced.http:
            yield traced
        await gateway.stop()
    await traced.worker.kill()


@pytest.mark.parametrize("stream", [False, True])
async def test_every_choice_is_below_the_request(traced: Traced, stream: bool) -> None:
    answer = await traced.post(stream=stream, n=2)
    assert answer.status_code == 200
    (server,) = traced.of(TRACE_ID, "POST /v1/completions")
    assert server.parent_id == f"{TRACE.span_id:016x}"
    assert server.attributes[spans.HTTP_STATUS] == 200
    choices = traced.children(server)
    assert [each.name for each in choices] == ["text_completion small"] * 2
    told = {each["traceparent"] for each in traced.worker.metadata}
    assert told == {f"00-{TRACE_ID}-{each.span_id}-01" for each in choices}


async def test_refusals_are_the_callers_doing_and_bugs_are_faults(traced: Traced) -> None:
    assert (await traced.post(max_tokens=10**6)).status_code == 400
    (refused,) = traced.of(TRACE_ID, "POST /v1/completions")
    assert (refused.attributes[spans.HTTP_STATUS], refused.error) == (400, "")
    assert refused.attributes[spans.ERROR_TYPE] == "400"
    traced.spans.clear()
    traced.worker.trouble = Trouble(fails_at=0)
    assert (await traced.post()).status_code == 500
    (failed,) = traced.of(TRACE_ID, "POST /v1/completions")
    assert failed.error == failed.attributes[spans.ERROR_TYPE] == "500"
    (chat,) = traced.children(failed)
    assert (chat.error, chat.attributes[spans.FINISH_REASONS]) == ("Internal", ("error",))
