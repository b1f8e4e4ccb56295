"""What a client of the gateway gets when all goes well."""

import json
import logging
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from shared.rpc import shortstack_pb2 as pb
from shared.telemetry.logs import JsonFormatter
from tests.contract.gateway.conftest import TEXT, StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, MemoryReport


async def test_a_completion_is_streamed_round_by_round(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    answer = await client.ask(request_id="my-request")
    assert answer.text == TEXT
    assert answer.ids == completion_ids
    assert [len(part.token_ids) for part in answer.tokens[:3]] == [1, 3, 3]
    assert answer.started.request_id == "my-request"
    assert answer.started.cell_id == "cell-a"
    assert answer.started.session_id == worker.metadata[0]["session-id"]
    assert worker.metadata[0]["request-id"] == "my-request"
    assert answer.started.model == "small"
    assert (
        answer.started.prompt_len == answer.finished.prompt_len == len(worker.requests[0].token_ids)
    )
    assert answer.finished.finish_reason == pb.FINISH_REASON_STOP
    assert answer.finished.timings.prefill_ns == 7
    assert worker.requests[0].num_emitted == 0
    assert not answer.tokens[0].logprobs
    assert worker.num_cancelled == 0


async def test_sources_add_up_to_the_summary_in_message_and_trailers(
    start: StartCells, completion_ids: list[int]
) -> None:
    client = await start(FakeVerifyWorker(completion_ids, round_len=4))
    answer = await client.ask()
    sources = [source for part in answer.tokens for source in part.sources]
    summary = answer.finished.speculation
    assert len(sources) == len(completion_ids) == answer.finished.num_emitted
    assert summary.num_accepted_tokens == sources.count(pb.TOKEN_SOURCE_ACCEPTED)
    assert summary.num_plain_rounds == sources.count(pb.TOKEN_SOURCE_PLAIN)
    assert summary.num_drafts == len(answer.tokens) - summary.num_plain_rounds
    assert summary.num_drafts == sum(summary.acceptance_histogram)
    assert summary.num_emitted_in_drafts + summary.num_plain_rounds == len(completion_ids)
    assert answer.trailers["shortstack-num-drafts"] == str(summary.num_drafts)
    assert answer.trailers["shortstack-acceptance-rate"] == "1.0000"


async def test_logprobs_come_one_for_each_id(start: StartCells, completion_ids: list[int]) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    answer = await client.ask(num_logprobs=0, stop_strings=["time"])
    assert worker.requests[0].HasField("num_logprobs")
    assert all(len(part.logprobs) == len(part.token_ids) for part in answer.tokens)
    top = [entry.top[0].token_id for part in answer.tokens for entry in part.logprobs]
    assert top == answer.ids


@pytest.mark.parametrize("round_len", [1, 2, 5, 30])
async def test_a_stop_string_ends_the_text_the_ids_and_the_cells_work(
    start: StartCells, completion_ids: list[int], tokenizer: Tokenizer, round_len: int
) -> None:
    worker = FakeVerifyWorker(completion_ids, round_len=round_len)
    client = await start(worker)
    answer = await client.ask(stop_strings=["never", " girl"])
    assert answer.text == "Once upon a time there was a little"
    assert answer.finished.finish_reason == pb.FINISH_REASON_STOP
    assert answer.finished.stop_reason == " girl"
    assert " girl" in tokenizer.decode(answer.ids)
    assert " girl" not in tokenizer.decode(answer.ids[:-1])
    assert answer.finished.num_emitted == len(answer.ids)
    summary = answer.finished.speculation
    assert summary.num_emitted_in_drafts + summary.num_plain_rounds == len(answer.ids)
    assert worker.num_running == 0


async def test_a_limit_is_passed_on_and_text_held_back_is_flushed(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    answer = await client.ask(
        stop={"max_new_tokens": 5}, stop_strings=["Once upon a time there is"]
    )
    assert len(answer.ids) == 5
    assert TEXT.startswith(answer.text)
    assert answer.finished.text
    assert answer.finished.finish_reason == pb.FINISH_REASON_LENGTH


async def test_sampling_without_a_seed_gets_one_and_tells_it(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    answer = await client.ask(sampling={"temperature": 0.5})
    assert answer.started.seed == worker.requests[0].sampling.seed != 0
    given = await client.ask(sampling={"temperature": 0.5, "seed": 2**64 - 1})
    assert given.started.seed == worker.requests[1].sampling.seed == 2**64 - 1


async def test_every_kind_of_input_becomes_ids(
    start: StartCells, completion_ids: list[int], tokenizer: Tokenizer
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    await client.ask(prompt="So:")
    await client.ask(token_ids={"ids": [5, 6, 7]})
    await client.ask(chat={"messages": [{"role": "user", "content": "Hi"}]})
    text_ids, ids, chat_ids = (list(request.token_ids) for request in worker.requests)
    assert text_ids == tokenizer.encode("So:").ids
    assert ids == [5, 6, 7]
    assert tokenizer.decode(chat_ids) == "<user>Hi\n<assistant>"


async def test_wishes_about_speculation_and_stops_reach_the_cell(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    speculation = {"method": "layerskip", "exit_layer": 2, "max_draft_len": 0}
    stop = {"max_new_tokens": 9, "stop_token_ids": [3, 4], "ignore_eos": True, "min_new_tokens": 2}
    await client.ask(speculation=speculation, stop=stop)
    assert worker.requests[0].speculation == pb.SpeculationParams(**speculation)
    assert worker.requests[0].speculation.HasField("max_draft_len")
    assert worker.requests[0].stop == pb.StopParams(**stop)


async def test_who_asks_and_how_urgently_reaches_the_cell(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    await client.ask(tenant="ann", priority=pb.PRIORITY_LOW, speculation={"mode": "force"})
    await client.ask()
    first, second = worker.requests
    assert (first.tenant, first.priority, first.speculation.mode) == (
        "ann", pb.PRIORITY_LOW, "force",
    )  # fmt: skip
    assert (second.tenant, second.priority) == ("", pb.PRIORITY_NORMAL)


async def test_what_cells_learn_by_reaches_the_cell_and_no_system_prompt_does(
    start: StartCells, completion_ids: list[int], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not to be guessed\n")
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker, task_secret_path=secret)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    await client.ask(session_key="talk", task="letters", chat={"messages": turns})
    await client.ask(chat={"messages": turns})
    await client.ask()
    labelled, hashed, plain = worker.requests
    assert (labelled.session_key, labelled.task_key) == ("talk", "letters")
    assert len(hashed.task_key) == 16 and int(hashed.task_key, 16)
    assert (plain.session_key, plain.task_key) == ("", "")


async def test_what_the_cell_tells_of_its_memory_reaches_the_client(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, memory=MemoryReport(48, 2))
    client = await start(worker)
    answer = await client.ask()
    assert (answer.finished.num_cached_tokens, answer.finished.num_preemptions) == (48, 2)
    stopped = await client.ask(stop_strings=[" girl"])
    assert stopped.finished.num_cached_tokens == 48


async def test_prompts_that_begin_alike_go_to_one_cell(
    start: StartCells, completion_ids: list[int]
) -> None:
    workers = [
        FakeVerifyWorker(completion_ids, cell_id=f"cell-{index}", max_context_len=4096)
        for index in range(4)
    ]
    client = await start(*workers)
    common = [7] * 128
    first = await client.ask(token_ids={"ids": [*common, 1]})
    served_by = [
        (await client.ask(token_ids={"ids": [*common, turn]})).started.cell_id for turn in range(8)
    ]
    assert set(served_by) == {first.started.cell_id}
    others = [
        (await client.ask(token_ids={"ids": [turn, *common]})).started.cell_id for turn in range(20)
    ]
    assert len(set(others)) > 1


async def test_models_and_cells_are_listed(start: StartCells, completion_ids: list[int]) -> None:
    client = await start(
        FakeVerifyWorker(completion_ids, cell_id="cell-a"),
        FakeVerifyWorker(completion_ids, cell_id="cell-b"),
    )
    listed = await client.stub.ListModels(pb.ListModelsRequest())
    assert [model.model_name for model in listed.models] == ["small"]
    assert [cell.cell_id for cell in listed.cells] == ["cell-a", "cell-b"]
    assert all(cell.num_free_pages == 10 for cell in listed.cells)


async def test_one_line_is_logged_for_a_request_and_none_of_its_text(
    start: StartCells, completion_ids: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    client = await start(FakeVerifyWorker(completion_ids))
    caplog.set_level(logging.INFO)
    await client.ask(request_id="my-request", prompt="A secret")
    lines = [JsonFormatter("gateway").format(record) for record in caplog.records]
    finished = [json.loads(line) for line in lines if "request finished" in line]
    assert len(finished) == 1
    line = finished[0]
    assert line["request_id"] == "my-request"
    assert line["num_emitted"] == len(completion_ids)
    assert (line["status"], line["finish_reason"], line["cell_id"]) == ("OK", "stop", "cell-a")
    assert (line["method"], line["exit_layer"], line["replays"]) == ("layerskip", 2, 0)
    assert 0 <= line["queue_ms"] <= line["ttft_ms"] <= line["duration_ms"]
    assert not any("secret" in line or "Once" in line for line in lines)
