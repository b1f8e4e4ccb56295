"""A running stack exposes every signal of the table, and counts what its clients were told."""

import asyncio
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample

from shared.speculation.vocabulary import SpeculationSummary
from shared.telemetry.signals.row import Kind, Service, Signal
from shared.telemetry.signals.table import SIGNALS
from shortstack.client import Client, Completion
from shortstack.plan import StackConfig
from shortstack.request import pinned
from shortstack.stack import Stack
from shortstack.watching.prometheus import find_prometheus
from shortstack.watching.traffic import make_traffic
from shortstack.watching.watch import watch_faults
from tests.cluster.streams import make_requests
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
CHILDREN = {Service.GATEWAY: "gateway", Service.VERIFY: "verify-0", Service.DRAFT: "draft-0"}
PROMPT = "Once upon"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stack(config: StackConfig) -> AsyncIterator[Stack]:
    """A stack that serves metrics on ports of the system's choice."""
    ports = {f"SHORTSTACK_{service.upper()}__METRICS_LISTEN": "127.0.0.1:0" for service in Service}
    environ = {**ports, "SHORTSTACK_VERIFY__SHEDS": "true"}
    async with Stack(replace(config, environ=environ)) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def completions(stack: Stack) -> list[Completion]:
    """What clients were told by the first requests of the stack."""
    async with Client(stack.target) as client:
        return await make_traffic(client, PROMPT)


async def scrape(stack: Stack, service: Service) -> list[Sample]:
    """Return the samples of a service, read by the strict parser of OpenMetrics."""
    request = urllib.request.Request(stack.metrics_urls[CHILDREN[service]], headers=OPENMETRICS)

    def read() -> str:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(read)
    return [sample for family in parse(text) for sample in family.samples]


async def values_of(stack: Stack, service: Service, name: str, label: str = "") -> Counter[str]:
    """Return a signal's values summed by a label, as they are now."""
    sums: Counter[str] = Counter()
    for sample in await scrape(stack, service):
        if sample.name == name:
            sums[sample.labels.get(label, "")] += int(sample.value)
    return sums


def is_exposed(signal: Signal, samples: list[Sample]) -> bool:
    name = f"{signal.name}_bucket" if signal.kind is Kind.HISTOGRAM else signal.name
    extra = {"le"} if signal.kind is Kind.HISTOGRAM else set()
    return any(
        sample.name == name and set(sample.labels) == set(signal.labels) | extra
        for sample in samples
    )


@pytest.mark.parametrize("service", list(Service))
async def test_every_row_of_the_table_is_exposed(
    service: Service, stack: Stack, completions: list[Completion]
) -> None:
    rows = [signal for signal in SIGNALS if service in signal.services]

    async def missing() -> list[str]:
        samples = await scrape(stack, service)
        return [row.name for row in rows if not is_exposed(row, samples)]

    async def is_complete() -> bool:
        return not await missing()

    try:
        await poll_until(is_complete, timeout_s=20, period_s=0.2)
    except TimeoutError:
        pytest.fail(f"{service} does not expose {await missing()}")


@pytest.mark.parametrize("service", list(Service))
async def test_nothing_is_exposed_that_the_table_lacks(
    service: Service, stack: Stack, completions: list[Completion]
) -> None:
    names = set()
    for signal in SIGNALS:
        if service in signal.services:
            is_histogram = signal.kind is Kind.HISTOGRAM
            names |= (
                {f"{signal.name}_{part}" for part in ("bucket", "sum", "count")}
                if is_histogram
                else {signal.name}
            )
    assert {sample.name for sample in await scrape(stack, service)} <= names


async def sums_of_cell(stack: Stack) -> Counter[str]:
    """Return the cell's counters of tokens and rounds, positions and sources one by one."""
    sums: Counter[str] = Counter()
    for sample in await scrape(stack, Service.VERIFY):
        if sample.name.startswith("vllm:") and sample.name.endswith("_total"):
            name = sample.name.removeprefix("vllm:").removesuffix("_total")
            part = sample.labels.get("position", sample.labels.get("finished_reason", ""))
            sums[name + part] += int(sample.value)
        elif sample.name == "shortstack_emitted_tokens_total":
            sums[sample.labels["source"]] += int(sample.value)
    return sums


async def test_the_cell_counts_what_clients_were_told(
    stack: Stack, completions: list[Completion]
) -> None:
    num_before = len(completions)

    async def num_ended() -> int:
        ended = await values_of(stack, Service.VERIFY, "vllm:request_success_total")
        return ended.total()

    # The one whose client went away, too.
    async def has_ended() -> bool:
        return await num_ended() == num_before + 1

    await poll_until(has_ended)
    before = await sums_of_cell(stack)
    # Whatever that takes: a model this small is faster without drafts.
    requests = [
        replace(each, speculation=pinned(2, 3)) for each in make_requests(3, max_new_tokens=60)
    ]
    async with Client(stack.target) as client:
        told = await asyncio.gather(*map(client.complete, requests))

    async def have_all_ended() -> bool:
        return await num_ended() == num_before + 1 + len(told)

    await poll_until(have_all_ended)
    sums = await sums_of_cell(stack)
    sums.subtract(before)
    summary = SpeculationSummary()
    for each in told:
        summary.add(each.speculation)
    assert sums["spec_decode_num_drafts"] == summary.num_drafts > 0
    assert sums["spec_decode_num_draft_tokens"] == summary.num_draft_tokens
    assert sums["spec_decode_num_accepted_tokens"] == summary.num_accepted_tokens
    histogram = summary.acceptance_histogram
    by_position = [
        sums[f"spec_decode_num_accepted_tokens_per_pos{position}"]
        for position in range(len(histogram))
    ]
    assert by_position == [sum(histogram[index + 1 :]) for index in range(len(histogram))]
    assert by_position == sorted(by_position, reverse=True)
    assert sum(by_position) == summary.num_accepted_tokens
    assert sums["prompt_tokens"] == sum(each.started.prompt_len for each in told)
    assert sums["generation_tokens"] == sum(len(each.token_ids) for each in told)
    sources = Counter(source.name.lower() for each in told for source in each.sources)
    for source in ("plain", "accepted", "recovered", "bonus"):
        assert sums[source] == sources[source]
    assert sums["request_successlength"] == len(told)


async def test_the_gateway_counts_requests_and_refusals(
    stack: Stack, completions: list[Completion]
) -> None:
    requests = "shortstack_gateway_requests_total"
    by_reason = await values_of(stack, Service.GATEWAY, requests, "finish_reason")
    # The empty prompt, and the method that the cell does not know.
    assert by_reason["length"] >= len(completions)
    assert (by_reason["cancelled"], by_reason["none"]) == (1, 2)
    refused = await values_of(stack, Service.GATEWAY, "shortstack_requests_refused_total", "reason")
    assert refused == {"InvalidRequest": 2}
    at_cell = await values_of(stack, Service.VERIFY, "shortstack_requests_refused_total", "reason")
    assert at_cell == {"InvalidRequest": 1}
    durations = "gen_ai_server_request_duration_seconds_count"
    by_operation = await values_of(stack, Service.GATEWAY, durations, "gen_ai_operation_name")
    # The empty prompt was no request yet.
    assert by_operation.total() == by_reason.total() - 1
    tokens = await values_of(stack, Service.GATEWAY, "shortstack_gateway_tokens_total", "kind")
    assert tokens["emitted"] >= sum(len(each.token_ids) for each in completions)
    assert tokens["accepted"] <= tokens["drafted"]


async def test_all_is_quiet_when_all_is_done(stack: Stack, completions: list[Completion]) -> None:
    async def is_quiet() -> bool:
        pages = await values_of(stack, Service.VERIFY, "shortstack_kv_pages", "state")
        sessions = await values_of(stack, Service.VERIFY, "shortstack_sessions")
        running = await values_of(stack, Service.GATEWAY, "shortstack_gateway_requests_running")
        return pages["used"] + pages["quarantined"] + sessions.total() + running.total() == 0

    await poll_until(is_quiet)


async def test_prometheus_answers_every_panel_and_no_alert_fires(
    stack: Stack, completions: list[Completion], tmp_path: Path
) -> None:
    program = find_prometheus()
    if program is None:
        pytest.skip("prometheus is not installed; names and labels are checked all the same")
    assert not await watch_faults(stack, program, tmp_path, PROMPT, timeout_s=40)
