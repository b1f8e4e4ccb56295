"""Where speculation might slip: ends of texts, ends of pages, lost draft workers, early ends."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.verify.drafter import DrafterReady
from services.verify.session import Emitted, Session
from shared.errors import PoolExhausted
from shared.speculation.vocabulary import (
    LAYERSKIP,
    Decision,
    FinishReason,
    SamplingParams,
    TokenSource,
)
from tests.engine_harness import (
    TIMEOUT_S,
    WORKER_ID,
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    MakeDrafter,
    PlainCell,
    Recorded,
    make_request,
    split_with,
)
from tests.faulty_drafters import LateDrafter, MeddlingDrafter, MortalDrafter
from tests.forced_drafter import ForcedDrafter
from tests.golden.pairwise import pairwise
from tests.golden.reference import GREEDY, ModelShelf, make_prompt, sampled
from tests.model_builder import MAX_CONTEXT_LEN, NUM_LAYERS
from tests.polling import poll_until

KIND = "llama"
WISHED = Decision(LAYERSKIP, 2, 4)
SAMPLINGS = pytest.mark.parametrize("sampling", [GREEDY, sampled(5)], ids=["greedy", "sampled"])


class OpenedSessions:
    """Records in the order of opening; the engine's thread waits here for those still to come."""

    def __init__(self) -> None:
        self._records: list[Recorded] = []
        self._changed = threading.Condition()

    def append(self, recorded: Recorded) -> None:
        """Add one that was just opened."""
        with self._changed:
            self._records.append(recorded)
            self._changed.notify_all()

    def __getitem__(self, index: int) -> Recorded:
        with self._changed:
            is_there = self._changed.wait_for(lambda: len(self._records) > index, TIMEOUT_S)
            assert is_there, f"session {index} was not opened"
            return self._records[index]

    def __iter__(self) -> Iterator[Recorded]:
        return iter(self._records)


async def run_to_end(recorded: Recorded) -> Recorded:
    """Wait for a session's end without blocking the loop."""
    return await asyncio.to_thread(recorded.wait)


async def memory_is_whole(cell: EngineHarness) -> None:
    """Wait until no page is in use: all are free, or known to the prefix cache alone."""
    memory, allocator = cell.memory, cell.memory.allocator
    await poll_until(lambda: allocator.num_free + memory.num_cached == allocator.num_pages)


# --- ends of texts --------------------------------------------------------------------------------


@SAMPLINGS
@pytest.mark.parametrize("num_new", range(1, 8))
def test_a_limit_is_met_exactly(num_new: int, sampling: SamplingParams, shelf: ModelShelf) -> None:
    prompt = make_prompt(3, 6)
    with EngineHarness(shelf.stack(KIND)) as cell:
        wished = Decision(LAYERSKIP, 2, 7)
        [recorded] = cell.run(make_request(prompt, num_new, wished=wished, sampling=sampling))
    assert recorded.token_ids == shelf.plain(KIND, prompt, num_new, sampling).token_ids
    assert recorded.reason is FinishReason.LENGTH
    # With one token left there is no room for a draft and its verdict.
    assert all(each.draft_len < num_new for each in recorded.rounds)


@SAMPLINGS
def test_the_end_of_the_context_ends_the_text_as_in_plain_decoding(
    sampling: SamplingParams, shelf: ModelShelf
) -> None:
    prompt = make_prompt(6, MAX_CONTEXT_LEN - 13)
    with EngineHarness(shelf.stack(KIND)) as cell:
        wished = Decision(LAYERSKIP, 1, 5)
        [recorded] = cell.run(make_request(prompt, 100, wished=wished, sampling=sampling))
    plain = shelf.plain(KIND, prompt, 100, sampling)
    assert len(recorded.token_ids) == 13
    assert recorded.token_ids == plain.token_ids
    assert recorded.reason is plain.finish_reason is FinishReason.LENGTH


@SAMPLINGS
@pytest.mark.parametrize("page_size", [1, 4])
def test_a_prompt_of_one_token_is_served(
    page_size: int, sampling: SamplingParams, shelf: ModelShelf
) -> None:
    with EngineHarness(shelf.stack(KIND), options=HarnessOptions(page_size=page_size)) as cell:
        [recorded] = cell.run(make_request([9], 20, wished=WISHED, sampling=sampling))
    assert recorded.token_ids == shelf.plain(KIND, [9], 20, sampling).token_ids


# The place of the end token among the emitted tokens: a round of k = 4 true drafts begins at 1.
@pytest.mark.parametrize("place", [0, 1, 2, 4, 5, 6])
def test_the_end_token_ends_the_text_wherever_in_a_round_it_falls(
    place: int, shelf: ModelShelf
) -> None:
    prompt = make_prompt(2, 5)
    tokens = shelf.plain(KIND, prompt, 60).token_ids
    text = [*prompt, *tokens]
    end_id = tokens[place]
    first = tokens.index(end_id)
    with EngineHarness(
        shelf.stack(KIND), lambda cell, inbox: ForcedDrafter(cell, inbox, text, lambda task: 4)
    ) as cell:
        request = make_request(prompt, 60, wished=WISHED, stop_token_ids=[end_id, 1])
        [recorded] = cell.run(request)
    assert recorded.token_ids == tokens[: first + 1]
    assert recorded.reason is FinishReason.STOP
    assert recorded.finished.stop_token_id == end_id
    # The drafter stops behind the end token too: it is accepted, the choice behind it dropped.
    expected = {0: TokenSource.PLAIN, 5: TokenSource.BONUS}.get(first, TokenSource.ACCEPTED)
    assert recorded.sources[-1] is expected
    assert recorded.rounds[-1].draft_len <= 4


def test_an_end_token_before_the_least_length_does_not_end_the_text(shelf: ModelShelf) -> None:
    prompt = make_prompt(2, 5)
    tokens = shelf.plain(KIND, prompt, 30).token_ids
    end_id = tokens[2]
    with EngineHarness(shelf.stack(KIND)) as cell:
        request = make_request(
            prompt, 30, wished=WISHED, stop_token_ids=[end_id], min_new_tokens=10
        )
        [recorded] = cell.run(request)
    later = [i for i, token in enumerate(tokens) if token == end_id and i >= 10]
    assert recorded.token_ids == tokens[: later[0] + 1 if later else 30]


@SAMPLINGS
def test_a_replay_goes_on_as_if_never_interrupted(
    sampling: SamplingParams, shelf: ModelShelf
) -> None:
    prompt = make_prompt(9, 8)
    tokens = shelf.plain(KIND, prompt, 24, sampling).token_ids
    for num_emitted in (1, 7, 23):
        with EngineHarness(shelf.stack(KIND)) as cell:
            request = make_request(
                [*prompt, *tokens[:num_emitted]],
                24,
                wished=WISHED,
                sampling=sampling,
                num_emitted=num_emitted,
            )
            [recorded] = cell.run(request)
        assert recorded.token_ids == tokens[num_emitted:]


@pytest.mark.parametrize(
    ("chunk_len", "sampling", "is_split"),
    pairwise((1, 2, 5, 16, 512), (GREEDY, sampled(5)), (False, True)),
    ids=lambda value: "sampled" if value == sampled(5) else None,
)
def test_prompts_prefilled_in_chunks_beside_running_sessions_give_the_same_texts(
    chunk_len: int, sampling: SamplingParams, is_split: bool, shelf: ModelShelf
) -> None:
    prompts = [make_prompt(seed, length) for seed, length in enumerate((3, 40, 17, 29))]
    make_drafter: MakeDrafter = split_with(shelf.draft_stack(KIND)) if is_split else FusedDrafter
    options = HarnessOptions(prefill_chunk_len=chunk_len)
    with EngineHarness(shelf.stack(KIND), make_drafter, options) as cell:
        found = cell.run(
            *(
                make_request(prompt, 15, session_id=f"s{i}", wished=WISHED, sampling=sampling)
                for i, prompt in enumerate(prompts)
            )
        )
    for recorded, prompt in zip(found, prompts, strict=True):
        assert recorded.token_ids == shelf.plain(KIND, prompt, 15, sampling).token_ids


# --- draft workers that fail ----------------------------------------------------------------------


@SAMPLINGS
@pytest.mark.parametrize("page_size", [1, 4, 16])
async def test_a_late_worker_that_scribbles_over_its_old_pages_harms_nothing(
    page_size: int, sampling: SamplingParams, shelf: ModelShelf
) -> None:
    prompts = [make_prompt(1, 9), make_prompt(2, 14)]

    def meddle(session: Session, emitted: Emitted) -> None:
        """Scribble behind every commit; now and then answer, so that new rounds are sent."""
        drafter = cell.drafter
        assert isinstance(drafter, LateDrafter)
        drafter.scribble()
        if emitted.round_index % 3 == 0:
            drafter.answer()

    options = HarnessOptions(page_size=page_size, round_timeout_ms=1)
    with EngineHarness(shelf.stack(KIND), LateDrafter, options, observer=meddle) as cell:
        opened = [
            cell.open(
                make_request(prompt, 24, session_id=f"s{i}", wished=WISHED, sampling=sampling)
            )
            for i, prompt in enumerate(prompts)
        ]
        for recorded, prompt in zip(opened, prompts, strict=True):
            await run_to_end(recorded)
            assert recorded.token_ids == shelf.plain(KIND, prompt, 24, sampling).token_ids
        assert isinstance(cell.drafter, LateDrafter)
        assert cell.rounds.num_fenced == cell.drafter.num_rounds >= 4
        cell.drafter.answer()
        await memory_is_whole(cell)
        assert cell.rounds.num_late == cell.rounds.num_fenced


async def test_a_worker_that_never_answers_costs_speed_not_the_session(shelf: ModelShelf) -> None:
    prompt = make_prompt(1, 9)
    options = HarnessOptions(round_timeout_ms=1)
    with EngineHarness(shelf.stack(KIND), LateDrafter, options) as cell:
        recorded = await run_to_end(cell.open(make_request(prompt, 20, wished=WISHED)))
        assert recorded.token_ids == shelf.plain(KIND, prompt, 20).token_ids
        # One round was lost; while it is unanswered no other is sent.
        assert cell.rounds.num_fenced == 1
        assert recorded.summary.num_drafts == 0
        assert cell.memory.allocator.num_quarantined > 0
        # It attaches anew: from then on it writes nothing of the round before.
        cell.engine.post(DrafterReady(WORKER_ID))
        await memory_is_whole(cell)


async def test_a_session_without_room_for_a_fence_waits_for_the_late_answer_and_is_replayed(
    shelf: ModelShelf,
) -> None:
    prompt = make_prompt(5, 10)
    # Exactly the pages of the session: none is left to move to.
    options = HarnessOptions(num_pages=8, round_timeout_ms=1, prefill_chunk_len=5)
    with EngineHarness(shelf.stack(KIND), LateDrafter, options) as cell:
        assert isinstance(cell.drafter, LateDrafter)
        request = make_request(prompt, 22, wished=WISHED, sampling=sampled(8))
        recorded = cell.open(request)

        def has_lost_its_memory() -> bool:
            """Whether the round in hand was fenced, and in vain."""
            is_fenced = cell.rounds.num_fenced == cell.drafter.num_rounds
            return is_fenced and cell.drafter.num_unanswered > 0

        # Fenced and replayed again and again; every replay gains at least a token.
        while not recorded.done.is_set():
            await poll_until(lambda: recorded.done.is_set() or has_lost_its_memory())
            cell.drafter.scribble()
            cell.drafter.answer()
        assert cell.rounds.num_fenced > 5
        assert recorded.token_ids == shelf.plain(KIND, prompt, 22, sampled(8)).token_ids
        await memory_is_whole(cell)


@SAMPLINGS
@pytest.mark.parametrize("num_steps", range(WISHED.max_draft_len + 2))
def test_a_worker_that_dies_at_any_step_of_a_round_is_replaced_without_a_trace(
    num_steps: int, sampling: SamplingParams, shelf: ModelShelf, tmp_path: Path
) -> None:
    prompts = [make_prompt(4, 6), make_prompt(7, 11)]
    with EngineHarness(
        shelf.stack(KIND),
        lambda cell, inbox: MortalDrafter(cell, inbox, 2, num_steps, tmp_path / "successor"),
        HarnessOptions(page_size=4),
        # Nobody holds this lock: the dead worker's memory is given back at once.
        liveness_path=tmp_path / "dead",
    ) as cell:
        found = cell.run(
            *(
                make_request(prompt, 24, session_id=f"s{i}", wished=WISHED, sampling=sampling)
                for i, prompt in enumerate(prompts)
            )
        )
        for recorded, prompt in zip(found, prompts, strict=True):
            assert recorded.token_ids == shelf.plain(KIND, prompt, 24, sampling).token_ids
            assert recorded.summary.num_drafts > 3, "the successor drafted on"
        assert isinstance(cell.drafter, MortalDrafter)
        # The last step of a full round is never cut short: then nobody died.
        has_died = cell.rounds.num_fenced > 0
        assert has_died == (num_steps <= WISHED.max_draft_len)


# --- early ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("round_index", range(4))
async def test_a_session_cancelled_while_its_round_is_in_flight_gives_its_pages_back(
    round_index: int, shelf: ModelShelf
) -> None:
    opened = OpenedSessions()

    def meddle(cell: EngineHarness, index: int) -> None:
        if index == round_index:
            cell.cancel(opened[0])

    with EngineHarness(
        shelf.stack(KIND), lambda cell, inbox: MeddlingDrafter(cell, inbox, meddle)
    ) as cell:
        opened.append(cell.open(make_request(make_prompt(1, 9), 60, wished=WISHED)))
        recorded = await run_to_end(opened[0])
        assert recorded.reason is FinishReason.CANCELLED
        await memory_is_whole(cell)


@pytest.mark.parametrize("num_commits", [1, 2, 5])
async def test_a_session_cancelled_between_rounds_gives_its_pages_back(
    num_commits: int, shelf: ModelShelf
) -> None:
    opened = OpenedSessions()

    def observe(session: Session, emitted: Emitted) -> None:
        if emitted.round_index == num_commits:
            cell.cancel(opened[0])

    with EngineHarness(shelf.stack(KIND), observer=observe) as cell:
        opened.append(cell.open(make_request(make_prompt(1, 9), 100, wished=WISHED)))
        recorded = await run_to_end(opened[0])
        assert recorded.reason is FinishReason.CANCELLED
        await memory_is_whole(cell)


async def test_a_session_cancelled_in_its_prefill_gives_its_pages_back_and_disturbs_nobody(
    shelf: ModelShelf,
) -> None:
    opened = OpenedSessions()

    def observe(session: Session, emitted: Emitted) -> None:
        long = opened[1].session
        if long.table is not None and 2 < long.num_run < 20:
            cell.cancel(opened[1])

    options = HarnessOptions(prefill_chunk_len=1)
    with EngineHarness(shelf.stack(KIND), observer=observe, options=options) as cell:
        prompt = make_prompt(1, 3)
        opened.append(cell.open(make_request(prompt, 80, session_id="short", wished=WISHED)))
        opened.append(cell.open(make_request(make_prompt(2, 90), 20, session_id="long")))
        short, long = [await run_to_end(each) for each in opened]
        assert long.reason is FinishReason.CANCELLED
        assert long.token_ids == []
        assert short.token_ids == shelf.plain(KIND, prompt, 80).token_ids
        await memory_is_whole(cell)


async def test_a_session_cancelled_while_waiting_never_starts(shelf: ModelShelf) -> None:
    opened = OpenedSessions()

    def observe(session: Session, emitted: Emitted) -> None:
        if emitted.round_index == 1:
            cell.cancel(opened[1])

    options = HarnessOptions(max_sessions=1)
    with EngineHarness(shelf.stack(KIND), PlainCell, options, observer=observe) as cell:
        for index in range(2):
            opened.append(cell.open(make_request([5, 6], 20, session_id=f"s{index}")))
        await run_to_end(opened[0])
        await memory_is_whole(cell)
        assert len(cell.engine.roster) == 0
        assert not opened[1].was_started


async def test_a_session_cancelled_behind_a_fence_leaves_only_the_quarantine_behind(
    shelf: ModelShelf,
) -> None:
    opened = OpenedSessions()

    def observe(session: Session, emitted: Emitted) -> None:
        if cell.rounds.num_fenced:
            cell.cancel(opened[0])

    options = HarnessOptions(round_timeout_ms=1)
    with EngineHarness(shelf.stack(KIND), LateDrafter, options, observer=observe) as cell:
        assert isinstance(cell.drafter, LateDrafter)
        opened.append(cell.open(make_request(make_prompt(1, 9), 60, wished=WISHED)))
        recorded = await run_to_end(opened[0])
        assert recorded.reason is FinishReason.CANCELLED
        allocator = cell.memory.allocator
        await poll_until(lambda: allocator.num_used == cell.memory.num_cached)
        assert allocator.num_quarantined > 0
        cell.drafter.scribble()
        cell.drafter.answer()
        await memory_is_whole(cell)


async def test_sessions_beyond_the_pages_wait_and_are_served_in_turn(shelf: ModelShelf) -> None:
    prompts = [make_prompt(seed, 6) for seed in range(5)]
    # Room for two sessions of 6 + 14 positions at a time.
    options = HarnessOptions(num_pages=10, page_size=4)
    with EngineHarness(shelf.stack(KIND), options=options) as cell:
        found = cell.run(
            *(
                make_request(prompt, 14, session_id=f"s{i}", wished=WISHED)
                for i, prompt in enumerate(prompts)
            )
        )
    for recorded, prompt in zip(found, prompts, strict=True):
        assert recorded.token_ids == shelf.plain(KIND, prompt, 14).token_ids


async def test_a_session_that_finds_no_room_in_time_is_refused_with_a_retry_delay(
    shelf: ModelShelf,
) -> None:
    options = HarnessOptions(max_sessions=1, queue_timeout_ms=1)
    with EngineHarness(shelf.stack(KIND), PlainCell, options) as cell:
        running = cell.open(make_request([5, 6], 100, session_id="running"))
        late = cell.open(make_request([5, 6], 5, session_id="late"))
        await run_to_end(late)
        assert isinstance(late.error, PoolExhausted)
        assert late.error.retry_delay_ms > 0
        await run_to_end(running)


@pytest.mark.parametrize("exit_layer", range(1, NUM_LAYERS))
def test_two_sessions_of_one_id_do_not_meet(exit_layer: int, shelf: ModelShelf) -> None:
    """Ids come from outside: rounds and repeated answers must not be mixed up by them."""
    prompts = [make_prompt(1, 9), make_prompt(2, 9)]
    wished = Decision(LAYERSKIP, exit_layer, 4)
    with EngineHarness(shelf.stack(KIND), split_with(shelf.draft_stack(KIND))) as cell:
        for _ in range(2):
            found = cell.run(*(make_request(prompt, 20, wished=wished) for prompt in prompts))
            for recorded, prompt in zip(found, prompts, strict=True):
                assert recorded.token_ids == shelf.plain(KIND, prompt, 20).token_ids
                assert recorded.summary.num_drafts > 3
