"""Searching while decoding: texts and KV stay those of plain decoding, and scores are true."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

import pytest
import torch

from services.verify.session import Emitted, Session, SessionRequest
from services.verify.set_search import SetSearcher, stream_name
from services.verify.workspace import workspace
from shared.control.policies.registry import GOODPUT
from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_book import StreamBook
from shared.control.skip_search.stream_record import Phase, StreamRecord
from shared.control.skip_search.windows import Piece
from shared.errors import PoolExhausted
from shared.ids import SessionId, TokenId
from shared.model.page_table import PageTable
from shared.model.sampling import RowChoice
from shared.model.skip_scores import SkipScorer
from shared.speculation.arm import arm_of
from shared.speculation.skip_set import NOTHING_SKIPPED, SkipSet, random_set
from shared.speculation.vocabulary import LAYERSKIP, SWIFT, Decision, SamplingParams
from tests.engine_harness import (
    EngineHarness,
    FusedDrafter,
    HarnessOptions,
    MakeDrafter,
    Recorded,
    make_request,
    split_with,
)
from tests.golden.reference import GREEDY, ModelShelf, PlainPass, TieCount, make_prompt, sampled
from tests.golden.test_rounds import KvObserver
from tests.model_builder import NUM_LAYERS
from tests.polling import poll_until

KIND = "llama"
NUM_NEW = 60
OPTIONS = SearchOptions(NUM_LAYERS, window_len=8, num_challengers=2, interval_rounds=1)


def searching(
    shelf: ModelShelf,
    make_drafter: MakeDrafter = FusedDrafter,
    page_size: int = 4,
    share: float = 1.0,
    observer: KvObserver | None = None,
) -> tuple[EngineHarness, SetSearcher]:
    """Return a cell that searches as often as it can."""
    options = HarnessOptions(page_size=page_size)
    cell = EngineHarness(shelf.stack(KIND), make_drafter, options, observer=observer)
    searcher = SetSearcher(
        StreamBook(OPTIONS, lambda observations, seed: random_set(4, 1, random.Random(seed)), 4),
        SearchBudget(share),
        SkipScorer(cell.stack, cell.pool),
        cell.memory,
        cell.engine.steps.governor,
    )
    cell.engine.steps.search = searcher
    return cell, searcher


def swift_request(index: int, sampling: SamplingParams = GREEDY, task: str = "") -> SessionRequest:
    request = make_request(
        make_prompt(index, 5 + 6 * index),
        NUM_NEW,
        session_id=f"ses-{index}",
        wished=Decision(SWIFT, 0, 4, 0.3),
        sampling=sampling,
    )
    return replace(request, task_key=task)


def compare(recorded: Recorded, shelf: ModelShelf, ties: TieCount) -> None:
    """Hold a text to plain decoding."""
    request = recorded.session.request
    plain = shelf.plain(KIND, list(request.token_ids), NUM_NEW, request.sampling)
    ties.compare(recorded.token_ids, plain.token_ids, plain.gaps, str(request.session_id))


@pytest.mark.parametrize("is_split", [False, True], ids=["fused", "split"])
@pytest.mark.parametrize("page_size", [1, 4, 16])
def test_texts_of_searching_streams_are_those_of_plain_decoding(
    page_size: int, is_split: bool, shelf: ModelShelf, ties: TieCount
) -> None:
    make_drafter = split_with(shelf.draft_stack(KIND)) if is_split else FusedDrafter
    cell, searcher = searching(shelf, make_drafter, page_size)
    requests = [
        swift_request(0, task="tales"),
        swift_request(1, sampled(1), task="tales"),
        swift_request(2, sampled(2)),
        swift_request(3, sampled(3), task="sums"),
    ]
    with cell:
        found = cell.run(*requests)
    for recorded in found:
        compare(recorded, shelf, ties)
    assert searcher.num_looks > 0 and searcher.num_looked_ns > 0
    streams = {stream.name: stream for stream in searcher.book}
    assert set(streams) == {stream_name("", "tales"), "", stream_name("", "sums")}
    assert sum(each.record.num_evaluations for each in streams.values()) > 0
    assert all(each.num_sessions == 0 and each.record.reply_len for each in streams.values())


def test_who_may_come_to_skip_has_a_stream_too(shelf: ModelShelf, ties: TieCount) -> None:
    cell, searcher = searching(shelf)
    arms = (1, 2, arm_of(SWIFT, 0))
    requests = [
        replace(
            swift_request(index, sampled(index)),
            wished=Decision(LAYERSKIP, 1, 4),
            policy=GOODPUT,
            arms=arms,
        )
        for index in range(2)
    ]
    alone = replace(requests[0], session_id=SessionId("alone"), arms=arms[:2], task_key="tales")
    with cell:
        found = cell.run(*requests, alone)
    for recorded in found:
        compare(recorded, shelf, ties)
    assert [stream.name for stream in searcher.book] == [""]


def test_kv_is_that_of_a_plain_pass_beside_drafts_and_looks(shelf: ModelShelf) -> None:
    request = swift_request(1)
    plain = shelf.plain(KIND, list(request.token_ids), NUM_NEW)
    text = [*request.token_ids, *plain.token_ids]
    observer = KvObserver(PlainPass(shelf.stack(KIND), text))
    cell, searcher = searching(shelf, observer=observer)
    observer.cell = cell
    with cell:
        [recorded] = cell.run(request)
    assert recorded.token_ids == plain.token_ids
    assert searcher.num_looks > 0 and searcher.num_looked_ns > 0
    assert len(observer.lengths) > 5


def test_without_time_nothing_is_looked_at(shelf: ModelShelf) -> None:
    cell, searcher = searching(shelf, share=0.0)
    with cell:
        cell.run(swift_request(0))
    assert searcher.num_looks == 0


async def test_a_cancelled_session_takes_its_piece_with_it_and_another_goes_on(
    shelf: ModelShelf, ties: TieCount
) -> None:
    cell, searcher = searching(shelf)
    with cell:
        doomed = cell.open(swift_request(0, task="tales"))
        others = [cell.open(swift_request(index, task="tales")) for index in (1, 2)]
        await poll_until(lambda: searcher.num_looks > 0)
        cell.cancel(doomed)
        for recorded in others:
            recorded.wait()
    for recorded in others:
        compare(recorded, shelf, ties)
    assert searcher.num_looks > 0 and searcher.num_looked_ns > 0


class Stage:
    """One session behind its prompt, in a cell whose engine does not run."""

    def __init__(self, shelf: ModelShelf, sampling: SamplingParams, num_new: int = 24) -> None:
        self.cell, self.searcher = searching(shelf)
        prompt = make_prompt(5, 10)
        plain = shelf.plain(KIND, prompt, num_new, sampling)
        self.text = [TokenId(token) for token in (*prompt, *plain.token_ids)]
        request = make_request(prompt, num_new, sampling=sampling, num_emitted=0)
        self.session = Session(request, lambda event: None, 0, lambda: 0)
        self.session.tokens = list(self.text)
        memory = self.cell.memory
        memory.admit(self.session)
        assert self.session.table is not None
        with torch.inference_mode():
            plain_pass = PlainPass(shelf.stack(KIND), self.text)
            end = len(self.text) - 1
            slots = torch.tensor(self.session.table.slots(0, end))
            for kv, expected in zip(self.cell.pool.layers, plain_pass.kv_layers, strict=True):
                kv.index_copy_(2, slots, expected[:, :, :end])
        self.session.num_run, self.session.is_decoding = end, True

    def kv(self) -> list[torch.Tensor]:
        """Return a copy of the session's KV."""
        assert self.session.table is not None
        slots = torch.tensor(self.session.table.slots(0, len(self.text) - 1))
        return [layer.index_select(2, slots) for layer in self.cell.pool.layers]

    def count(self, skip_set: SkipSet, piece: Piece) -> int:
        """Return the answers that the model less a set chooses."""
        with torch.inference_mode():
            return self.searcher._count_matches(skip_set, self.session, piece)


@pytest.fixture
def stage(shelf: ModelShelf) -> Iterator[Stage]:
    stage = Stage(shelf, sampled(6))
    yield stage
    stage.cell.memory.check_integrity([stage.session])
    stage.cell.pool.close()


def test_the_full_model_scores_one_on_sampled_text_and_no_page_is_touched(stage: Stage) -> None:
    """It would not, were noise or processors missing, or the index of a choice off by one."""
    before = stage.kv()
    for piece in (Piece(13, 21), Piece(20, 34), Piece(11, 34)):
        assert stage.count(NOTHING_SKIPPED, piece) == piece.num_answers
    everything = SkipSet(frozenset(range(2, 6)))
    assert stage.count(everything, Piece(11, 34)) < 23
    assert all(torch.equal(a, b) for a, b in zip(before, stage.kv(), strict=True))


class ScriptedScorer(SkipScorer):
    """Chooses what it is told to, and notes what it was asked."""

    def __init__(self, found: list[TokenId]) -> None:
        self.found = found
        self.asked: list[tuple[Sequence[TokenId], int, list[int]]] = []

    def choices(
        self,
        skip_set: SkipSet,
        table: PageTable,
        tokens: Sequence[TokenId],
        start: int,
        rows: Sequence[RowChoice],
    ) -> list[TokenId]:
        self.asked.append((tokens, start, [row.position for row in rows]))
        assert [list(row.history) for row in rows] == [[*HISTORY[: row.position]] for row in rows]
        return self.found


def test_the_looks_of_a_trial_come_in_a_row_once_all_are_saved_for(stage: Stage) -> None:
    """A session of some hundred tokens would not live to the end of one whose looks come singly."""
    searcher, session = stage.searcher, stage.session
    searcher._now_ns = count(0, LOOK_NS).__next__
    searcher._governor.costs.note_pass({0: OPTIONS.window_len}, LOOK_NS)
    session.request = replace(session.request, wished=Decision(SWIFT, 0, 4))
    searcher.open(session)
    assert session.stream is not None
    session.stream.note_round(session.stream.skip_set, 0, 0)

    def look() -> bool:
        with torch.inference_mode():
            return searcher.look([session])

    # A set in use and two that challenge it.
    looks = []
    for _ in range(4 * 3):
        looks.append(look())
        searcher.budget.earn(LOOK_NS // 4)
    assert looks == [False] * len(looks)
    assert [look() for _ in range(5)] == [True, True, True, False, False]
    assert session.stream.record.num_evaluations == 2


LOOK_NS = 1_000_000
HISTORY: list[TokenId] = []


def test_the_score_is_the_share_of_answers_that_were_chosen(stage: Stage) -> None:
    text = stage.text
    HISTORY[:] = text
    wrong = TokenId(text[21] + 1)
    scorer = ScriptedScorer([text[20], wrong, text[22], text[23]])
    stage.searcher._scorer = scorer
    assert stage.count(NOTHING_SKIPPED, Piece(20, 24)) == 3
    # Rows at 19 .. 22 are fed the text; choice i is for position 20 + i.
    assert scorer.asked == [(text[19:23], 19, [20, 21, 22, 23])]


def test_a_workspace_gives_its_pages_back_and_takes_nobodys(stage: Stage) -> None:
    memory = stage.cell.memory
    num_free = memory.allocator.num_free
    with (
        pytest.raises(RuntimeError, match="amid a look"),
        workspace(memory, stage.session, 9, 30),
    ):
        assert memory.allocator.num_free < num_free
        raise RuntimeError("amid a look")
    assert memory.allocator.num_free == num_free
    held = memory.allocator.allocate(num_free)
    with pytest.raises(PoolExhausted), workspace(memory, stage.session, 9, 30):
        pytest.fail("there was no page left")
    memory.allocator.release(held)


def test_a_full_prefix_cache_lends_its_oldest_pages(stage: Stage) -> None:
    """A cell that has served for long has no free page, and searches all the same."""
    memory = stage.cell.memory
    num_free = memory.allocator.num_free
    num_cached = 6
    others = memory.allocator.allocate(num_free - num_cached)
    texts = [[TokenId(40 + index)] * memory.page_size for index in range(num_cached)]
    for text in texts:
        (page,) = memory.allocator.allocate(1)
        memory.prefixes.insert(text, [page.first_page])
    assert memory.allocator.num_free == 0
    with workspace(memory, stage.session, 9, 30):
        assert len(memory.prefixes) < num_cached
    memory.allocator.release(others)


def test_a_better_set_from_elsewhere_is_drafted_with_from_the_next_round_on(
    shelf: ModelShelf, ties: TieCount
) -> None:
    """Also while a round is in flight: no draft's KV outlives its round."""
    cell, searcher = searching(shelf, share=0.0)
    better = SkipSet.from_wire((5,))
    drafted: list[tuple[SkipSet, int]] = []

    def note(session: Session, emitted: Emitted) -> None:
        drafted.append((session.skip_set, emitted.draft_len))
        if len(drafted) == 6:
            searcher.adopt("", StreamRecord(better, version=7, num_evaluations_ever=40))

    cell._observer = note
    with cell:
        [recorded] = cell.run(swift_request(1))
    compare(recorded, shelf, ties)
    sets = [skip_set for skip_set, draft_len in drafted if draft_len]
    assert sets[0] == OPTIONS.start_set and sets[-1] == better
    assert sets == sorted(sets, key=lambda each: each == better), "the old set came back"


def test_a_stream_that_is_off_decodes_plainly(shelf: ModelShelf, ties: TieCount) -> None:
    cell, searcher = searching(shelf, share=0.0)
    with cell:
        searcher.adopt("", StreamRecord(SkipSet.from_wire((5,)), 2, Phase.OFF, 100, 100, 100))
        [recorded] = cell.run(swift_request(1))
    compare(recorded, shelf, ties)
    assert recorded.summary.num_drafts == 0
