"""The draft engine: batches, repeated and superseded rounds, tasks that it refuses."""

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from services.draft.attachment import Attachment
from services.draft.engine import DraftEngine, DraftJob
from shared.errors import InvalidRequest, ModelMismatch, StaleHandle, Unsupported
from shared.ids import SessionId, TokenId
from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.segment import ShmSegment
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import (
    LAYERSKIP,
    Decision,
    Draft,
    Extent,
    RoundTask,
    SamplingParams,
)
from tests.engine_harness import BOOT_ID, HarnessOptions, attach_request, make_layout
from tests.model_builder import MAX_CONTEXT_LEN, NUM_LAYERS, write_model

TASK = RoundTask(
    session_id=SessionId("s"),
    round_index=3,
    extents=(Extent(0, 8),),
    exit_slot=1,
    pending_tokens=(TokenId(9),),
    committed_len=1,
    prompt_len=1,
    decision=Decision(LAYERSKIP, 2, 4),
    sampling=SamplingParams(),
)


class Bench:
    """A draft engine attached to a segment of this process."""

    def __init__(self, stack: LayerStack) -> None:
        layout = make_layout(stack, HarnessOptions())
        self.pool = KVPool(ShmSegment(layout.size_bytes), layout)
        self.pool.check_word.fill_(BOOT_ID)
        self.stack = stack
        self.request = attach_request(self.pool, stack)
        self.attachment = Attachment(self.request, stack)
        self.failures: list[BaseException] = []
        self.engine = DraftEngine(stack, self.failures.append)
        self.engine.start()

    def draft(self, *tasks: RoundTask) -> list[Draft]:
        """Return the engine's answer to one message."""
        answers: queue.SimpleQueue[list[Draft]] = queue.SimpleQueue()
        self.engine.submit(DraftJob(self.attachment, tasks, answers.put, time.perf_counter_ns()))
        return answers.get(timeout=10)

    def close(self) -> None:
        """End the engine."""
        self.engine.stop()
        self.pool.close()
        assert not self.failures


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> LayerStack:
    """A tiny model with two layers loaded."""
    return load_stack(write_model(tmp_path_factory.mktemp("models") / "tiny"), num_layers=2)


@pytest.fixture
def bench(stack: LayerStack) -> Iterator[Bench]:
    """A fresh engine and segment."""
    made = Bench(stack)
    yield made
    made.close()


def test_a_round_leaves_its_rows_in_the_slot_and_its_keys_in_the_pages(bench: Bench) -> None:
    [draft] = bench.draft(TASK)
    assert (draft.session_id, draft.round_index, draft.exit_slot) == ("s", 3, 1)
    assert len(draft.draft_tokens) == len(draft.confidences) == 4
    assert not draft.error
    assert all(0 < confidence <= 1 for confidence in draft.confidences)
    rows = bench.pool.exit_states[1]
    assert rows[:5].any(-1).all() and not rows[5:].any()
    assert not bench.pool.exit_states[0].any()
    for layer, kv in enumerate(bench.pool.layers):
        written = kv.any(-1).any(0).any(0).nonzero().flatten().tolist()
        assert written == (list(range(5)) if layer < 2 else [])


def test_a_repeated_round_gets_the_same_answer_and_touches_no_memory(bench: Bench) -> None:
    [first] = bench.draft(TASK)
    bench.pool.exit_states.fill_(7.0)
    for layer in bench.pool.layers:
        layer.fill_(7.0)
    [again] = bench.draft(TASK)
    untimed = [replace(each, queue_ns=0, started_ns=0, draft_ns=0) for each in (again, first)]
    assert untimed[0] == untimed[1]
    assert bench.engine.metrics.num_repeated == 1
    assert (bench.pool.exit_states == 7.0).all()
    assert all((layer == 7.0).all() for layer in bench.pool.layers)


def test_a_superseded_round_is_refused(bench: Bench) -> None:
    bench.draft(TASK)
    [draft] = bench.draft(replace(TASK, round_index=2))
    assert draft.draft_tokens == ()
    assert "round 2 is over" in draft.error
    metrics = bench.engine.metrics
    assert (metrics.num_refused, metrics.num_repeated) == (1, 0)
    assert metrics.batch_rounds.count == metrics.batch_s.count == metrics.queue_s.count == 2
    [draft] = bench.draft(replace(TASK, round_index=4))
    assert not draft.error


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"decision": Decision(LAYERSKIP, 0, 4)}, "exit_layer 0"),
        ({"decision": Decision(LAYERSKIP, NUM_LAYERS, 4)}, "exit_layer 4"),
        ({"decision": Decision(LAYERSKIP, NUM_LAYERS + 1, 4)}, "exit_layer 5"),
        ({"decision": Decision("magic", 2, 4)}, "method 'magic'"),
        ({"shadow_exits": (2,)}, "shadow_exits (2,) must ascend and lie in [1, 2)"),
        ({"shadow_exits": (0,)}, "shadow_exits (0,)"),
        ({"shadow_exits": (1, 1)}, "shadow_exits (1, 1)"),
        ({"shadow_exits": (2, 1), "decision": Decision(LAYERSKIP, 3, 4)}, "shadow_exits (2, 1)"),
        ({"decision": Decision(LAYERSKIP, 2, 8)}, "do not fit the region's rows"),
        ({"exit_slot": 8}, "slot 8 lies outside"),
        ({"extents": (Extent(0, 100_000),)}, "lies outside"),
        ({"extents": (Extent(0, 1),)}, "outside the session's pages"),
        ({"extents": ()}, "outside the session's pages"),
        (
            {"committed_len": MAX_CONTEXT_LEN, "extents": (Extent(0, 40),)},
            "beyond the context",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_task_that_does_not_fit_is_answered_with_its_error_alone(
    change: dict[str, object], text: str, bench: Bench
) -> None:
    good = replace(TASK, session_id=SessionId("good"), exit_slot=0)
    bad = replace(TASK, **change)  # type: ignore[arg-type]
    drafts = {draft.session_id: draft for draft in bench.draft(good, bad)}
    assert not drafts[SessionId("good")].error
    assert text in drafts[SessionId("s")].error
    # A refused round was not drafted: it may be ordered again, mended.
    [draft] = bench.draft(TASK)
    assert not draft.error


def test_rounds_of_several_exits_are_drafted_as_if_alone(bench: Bench) -> None:
    tasks = [
        replace(
            TASK,
            session_id=SessionId(f"s{index}"),
            extents=(Extent(8 * index, 8),),
            exit_slot=index,
            pending_tokens=(TokenId(9 + index),),
            decision=Decision(LAYERSKIP, 1 + index % 3, 2 + index),
        )
        for index in range(4)
    ]
    together = {draft.session_id: draft for draft in bench.draft(*tasks)}
    for task in tasks:
        [alone] = bench.draft(replace(task, round_index=9))
        assert alone.draft_tokens == together[task.session_id].draft_tokens
        assert alone.confidences == pytest.approx(together[task.session_id].confidences, abs=1e-5)
    assert bench.stack.num_loaded == 3, "a deeper exit loads what it needs"
    assert bench.engine.num_rounds == 8
    assert bench.engine.num_draft_steps == 2 * (3 + 4 + 5 + 6)


def test_a_draft_stops_behind_a_stop_token_and_behind_an_unsure_one(bench: Bench) -> None:
    [whole] = bench.draft(TASK)
    stop = frozenset({int(whole.draft_tokens[1])})
    [stopped] = bench.draft(replace(TASK, round_index=4, stop_token_ids=stop))
    first = whole.draft_tokens.index(whole.draft_tokens[1])
    assert stopped.draft_tokens == whole.draft_tokens[: first + 1]
    threshold = Decision(LAYERSKIP, 2, 4, stop_threshold=1.0)
    [unsure] = bench.draft(replace(TASK, round_index=5, decision=threshold))
    assert unsure.draft_tokens == whole.draft_tokens[:1]


SAMPLED = SamplingParams(0.8, seed=3, repetition_penalty=1.2)


@pytest.mark.parametrize("sampling", [SamplingParams(), SAMPLED], ids=["greedy", "sampled"])
def test_looking_at_other_exits_changes_no_draft(sampling: SamplingParams, bench: Bench) -> None:
    task = replace(TASK, decision=Decision(LAYERSKIP, 3, 4), sampling=sampling)
    [alone] = bench.draft(task)
    kept = [layer.clone() for layer in bench.pool.layers]
    states = bench.pool.exit_states.clone()
    [watched] = bench.draft(replace(task, round_index=4, shadow_exits=(1, 2)))
    assert watched.draft_tokens == alone.draft_tokens
    assert watched.confidences == alone.confidences, "not even in the last bit"
    assert torch.equal(bench.pool.exit_states, states)
    assert all(map(torch.equal, bench.pool.layers, kept))
    assert [each.exit_layer for each in watched.shadow] == [1, 2]
    assert {len(each.tokens) for each in watched.shadow} == {5}
    assert not alone.shadow


@pytest.mark.parametrize("sampling", [SamplingParams(), SAMPLED], ids=["greedy", "sampled"])
def test_an_exit_is_read_as_it_would_have_drafted(sampling: SamplingParams, bench: Bench) -> None:
    """Its choice behind the pending token is its first draft, however many rounds are read."""
    tasks = [
        replace(
            TASK,
            session_id=SessionId(f"s{index}"),
            extents=(Extent(8 * index, 8),),
            exit_slot=index,
            pending_tokens=(TokenId(9 + index),),
            decision=Decision(LAYERSKIP, 3 - index % 2, 2 + index),
            sampling=sampling,
            shadow_exits=(1,) if index % 2 else (1, 2),
        )
        for index in range(4)
    ]
    for task, watched in zip(tasks, bench.draft(*tasks), strict=True):
        assert watched.session_id == task.session_id
        for read in watched.shadow:
            assert (len(read.tokens), read.first_row) == (len(watched.draft_tokens) + 1, 0)
            decision = Decision(LAYERSKIP, read.exit_layer, 1)
            again = replace(task, round_index=9 + read.exit_layer, decision=decision)
            [drafted] = bench.draft(replace(again, shadow_exits=()))
            assert read.tokens[:1] == drafted.draft_tokens
            assert read.confidences[:1] == pytest.approx(drafted.confidences, abs=1e-5)


def _with_layout(**changes: object) -> Callable[[pb.AttachRequest], None]:
    def change(request: pb.AttachRequest) -> None:
        for name, value in changes.items():
            setattr(request.layout, name, value)

    return change


def _set(path: str, value: object) -> Callable[[pb.AttachRequest], None]:
    def change(request: pb.AttachRequest) -> None:
        message, name = path.split(".")
        setattr(getattr(request, message), name, value)

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_set("model.model_fingerprint", "0" * 32), ModelMismatch),
        (_with_layout(head_size=32), ModelMismatch),
        (_with_layout(num_kv_heads=4), ModelMismatch),
        (_with_layout(hidden_size=128), ModelMismatch),
        (_with_layout(dtype="bfloat16"), ModelMismatch),
        (_with_layout(num_kv_layers=NUM_LAYERS - 1), ModelMismatch),
        (_with_layout(num_pages=0), InvalidRequest),
        (_with_layout(page_size=0), InvalidRequest),
        (_with_layout(max_rows=0), InvalidRequest),
        (_with_layout(num_pages=3), InvalidRequest),
        (_set("segment.size_bytes", 1), InvalidRequest),
        (_set("segment.shm_path", "/etc/passwd"), StaleHandle),
        (_set("segment.shm_path", "/dev/shm/else"), StaleHandle),
        (lambda request: request.segment.cuda_ipc.SetInParent(), Unsupported),
        (lambda request: request.segment.ClearField("shm_path"), Unsupported),
    ],
)
def test_terms_that_do_not_fit_are_refused(
    change: Callable[[pb.AttachRequest], None], error: type[Exception], bench: Bench
) -> None:
    request = pb.AttachRequest()
    request.CopyFrom(bench.request)
    change(request)
    with pytest.raises(error):
        Attachment(request, bench.stack)
