"""`bench serve` against a real stack: all requests are answered, all modes alike."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from shortstack.bench.open_bench import Watcher
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.cell_watch import CellWatch
from shortstack.bench.serve.modes import parse_modes
from shortstack.bench.serve.open_serve import Server
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.result import Outcome
from shortstack.bench.serve.senders import Ends
from shortstack.bench.serve.soak import measure_soak
from shortstack.bench.serve.turns import Load, LoadKind, take_turn
from shortstack.bench.serve.workload import LengthMix, WorkItem
from shortstack.bench.torch_peer import ModelChoice
from shortstack.client import Client
from shortstack.stack import Stack
from tests.cluster.tiny_model import MAX_CONTEXT_LEN
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

PROMPTS = [BenchPrompt(f"p{i}", "made", tuple(range(10 + i, 16 + 3 * i))) for i in range(4)]
MODES = parse_modes("auto,off,static:E=2:d=3")


@pytest.fixture(scope="module")
def plan(model_dir: Path) -> ServePlan:
    mix = LengthMix(((2, 6), (12, 12)))
    return ServePlan(ModelChoice(model_dir, num_threads=1), PROMPTS, MODES, num_requests=6, mix=mix)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(shared_stack: Stack, shared_client: Client) -> AsyncIterator[Server]:
    model = (await shared_client.models()).models[0]
    ends = Ends(tuple(model.eos_token_ids))
    yield Server(
        shared_stack, shared_client, ends, model.num_layers, MAX_CONTEXT_LEN, model.vocab_size
    )


async def test_all_modes_answer_the_same_requests_with_the_same_tokens(
    server: Server, plan: ServePlan
) -> None:
    for load in (Load(LoadKind.CLOSED, 3), Load(LoadKind.OPEN, 50.0)):
        answers = []
        for mode in MODES:
            turn = await take_turn(plan, server, server.sender(mode), load, 0, Watcher())
            assert {each.outcome for each in turn.results} == {Outcome.DONE}
            assert turn.figures.num_done == 6
            assert turn.figures.num_tokens == sum(sum(each.lens) for each in turn.results)
            answers.append({each.item.index: (each.item, each.token_ids) for each in turn.results})
        assert answers[0] == answers[1] == answers[2]
        assert len(answers[0]) == 6


async def test_static_requests_draft_and_plain_ones_do_not(server: Server, plan: ServePlan) -> None:
    item = WorkItem(0, PROMPTS[0], 12)
    _, off, static = [await server.sender(mode).send_now(item) for mode in MODES]
    assert off.server is not None and static.server is not None
    assert off.server.speculation.num_drafts == 0
    assert static.server.speculation.num_drafts > 0
    assert off.server.prompt_len == len(PROMPTS[0].token_ids)


async def test_a_cancelled_request_keeps_what_had_come(server: Server) -> None:
    endless = server.endless_sender(MODES[1])
    item = WorkItem(0, PROMPTS[0], MAX_CONTEXT_LEN - 20)
    result = await endless.send_for(item, 0.05)
    assert result.outcome is Outcome.CANCELLED
    assert len(result.token_ids) < item.max_new_tokens


async def test_a_request_that_cannot_be_is_a_failure_and_says_why(server: Server) -> None:
    prompt = BenchPrompt("long", "made", (5,) * (MAX_CONTEXT_LEN + 1))
    result = await server.sender(MODES[0]).send_now(WorkItem(0, prompt, 4))
    assert result.outcome is Outcome.FAILED
    assert result.error.startswith("INVALID_ARGUMENT")


async def test_the_watch_sees_pages_in_use(server: Server) -> None:
    async with CellWatch(server.targets, period_s=0.01) as watch:
        await server.endless_sender(MODES[1]).send_now(WorkItem(0, PROMPTS[0], 200))
        await poll_until(lambda: watch.peaks.num_used > 0 or watch.peaks.num_pages > 0)
    assert watch.peaks.num_pages > watch.peaks.num_used > 0
    assert watch.peaks.num_missed == 0


async def test_a_short_soak_leaves_everything_as_it_was(plan: ServePlan) -> None:
    short = replace(plan, num_requests=None, duration_s=1.0, concurrency=(4,))
    report = await measure_soak(short, Watcher())
    assert report.failures() == []
    assert report.num_by_outcome[Outcome.DONE] > 0
    assert report.after.pages.is_idle
    assert report.check.num_compared > 0
    assert len(report.after.stack.segments) == 1
    assert report.to_json()["failures"] == []
