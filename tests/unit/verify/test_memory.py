"""Memory of sessions: admission, shared beginnings, growth, fences, quarantine, lost memory."""

import pytest
import torch

from services.verify.memory import PrefixSharing
from shared.errors import InvalidRequest, PoolExhausted
from shared.ids import TokenId
from shared.speculation.vocabulary import SamplingParams
from tests.engine_harness import GREEDY
from tests.unit.verify.builders import make_memory, make_session
from tests.unit.verify.kv_marks import check_cached_kv, check_kv, run_all

PENALISED = SamplingParams(repetition_penalty=1.2)


def test_a_session_starts_with_the_pages_of_its_tokens_and_grows_in_place() -> None:
    memory = make_memory()
    session, other = make_session("a", [5] * 6, 11), make_session("b", [6] * 6, 11)
    memory.admit(session)
    memory.admit(other)
    assert session.table is not None
    # Positions [0, 7) in pages of four: the prompt and the first new token.
    assert session.table.num_positions == 8
    assert session.exit_slot >= 0
    for num_positions in range(8, 18):
        assert memory.grow(session, num_positions)
        assert memory.grow(other, num_positions)
        memory.check_integrity([session, other])
    assert session.table.num_positions == 20
    assert session.table.base_slot is not None, "the pages behind it had been promised to it"
    for each in (session, other):
        memory.release(each)
        memory.release(each)
    # One full page of each was run by nobody: there is nothing to keep.
    assert memory.allocator.num_free == 16
    memory.check_integrity([])


def test_promised_pages_go_to_others_once_no_other_is_left() -> None:
    memory = make_memory(num_pages=8)
    first = make_session("a", [5] * 3, 29)
    memory.admit(first)
    second = make_session("b", [6] * 3, 29)
    memory.admit(second)
    assert first.table is not None and second.table is not None
    assert memory.grow(second, 28), "the other's promise is no reservation"
    assert not memory.grow(first, 8)
    assert first.table.num_positions == 4, "what it has it keeps"
    memory.check_integrity([first, second])


def test_what_can_never_fit_is_refused_and_names_the_limit() -> None:
    memory = make_memory(num_pages=4)
    with pytest.raises(InvalidRequest, match="the pool holds 16") as caught:
        memory.check_fits(make_session(prompt=[5] * 6, max_new_tokens=11))
    assert caught.value.field == "stop.max_new_tokens"
    memory.check_fits(make_session(prompt=[5] * 6, max_new_tokens=10))


def test_without_pages_or_slots_nothing_is_taken() -> None:
    memory = make_memory(num_pages=8, num_exit_slots=1)
    first, second = make_session("a", [5] * 3), make_session("b", [6] * 3)
    memory.admit(first)
    with pytest.raises(PoolExhausted, match="slot"):
        memory.admit(second)
    memory.release(first)
    memory = make_memory(num_pages=8)
    memory.admit(make_session("c", [5] * 27))
    with pytest.raises(PoolExhausted, match="1 pages wanted and 1 to spare, 1 of 8 free"):
        memory.admit(second, num_spare=1)
    assert second.table is None
    memory.admit(second)


@pytest.mark.parametrize("num_generated", range(1, 9))
def test_a_fence_moves_what_may_still_be_written_and_keeps_what_is_committed(
    num_generated: int,
) -> None:
    memory = make_memory()
    session = make_session(prompt=[5, 6, 7], max_new_tokens=13, num_generated=num_generated)
    memory.admit(session)
    assert memory.grow(session, 16)
    table, slot = session.table, session.exit_slot
    assert table is not None
    kv, start = memory.pool.layers[0], session.committed_len - 1
    for position, kv_slot in enumerate(table.slots(0, 16)):
        kv[:, :, kv_slot] = position
        memory.pool.token_ids_S[kv_slot] = position
    assert memory.fence(session, "draft-0")
    moved = session.table
    assert moved is not None and moved.num_positions == table.num_positions
    writable = set(table.slots(start, 16))
    assert not writable & set(moved.slots(0, 16)), "a late writer could reach live memory"
    assert session.exit_slot != slot
    for position, kv_slot in enumerate(moved.slots(0, start)):
        assert (kv[:, :, kv_slot] == position).all()
        assert memory.pool.token_ids_S[kv_slot] == position
    memory.check_integrity([session])
    assert memory.quarantine.worker_ids == {"draft-0"}
    assert memory.end_quarantine((session.session_id, session.round_index))
    assert not memory.end_quarantine((session.session_id, session.round_index))
    memory.check_integrity([session])
    assert memory.allocator.num_quarantined == 0


@pytest.mark.parametrize(("num_pages", "num_exit_slots"), [(4, 4), (16, 1)])
def test_without_room_for_a_fence_the_session_holds_nothing(
    num_pages: int, num_exit_slots: int
) -> None:
    memory = make_memory(num_pages, num_exit_slots=num_exit_slots)
    session = make_session(prompt=[5] * 5, max_new_tokens=11, num_generated=1)
    memory.admit(session)
    assert memory.grow(session, 16)
    assert not memory.fence(session, "draft-0")
    assert (session.table, session.exit_slot) == (None, -1)
    # The page before that of position n - 1 is free at once.
    assert memory.allocator.num_quarantined == 3
    assert memory.allocator.num_free == num_pages - 3
    memory.check_integrity([])
    memory.end_quarantine_of("draft-0")
    assert memory.allocator.num_free == num_pages
    memory.check_integrity([])


@pytest.mark.parametrize("sampling", [GREEDY, PENALISED], ids=["greedy", "penalised"])
def test_a_known_beginning_is_shared_and_copied_from_where_the_text_goes_on_otherwise(
    sampling: SamplingParams,
) -> None:
    memory = make_memory(page_size=4)
    first = make_session("a", [1, 2, 3, 4, 5, 6, 7, 8, 9], 7)
    memory.admit(first)
    assert (first.num_run, first.num_cached) == (0, 0)
    run_all(memory, first)
    second = make_session("b", [1, 2, 3, 4, 5, 6, 1, 1, 1], 7, sampling=sampling)
    memory.admit(second)
    assert first.table is not None and second.table is not None
    assert (second.num_run, second.num_cached) == (6, 6)
    assert second.table.slots(0, 4) == first.table.slots(0, 4)
    assert not set(second.table.slots(4, 12)) & set(first.table.slots(4, 12))
    check_kv(memory, second)
    run_all(memory, second)
    for session in (first, second):
        check_kv(memory, session)
    assert (memory.num_prefix_tokens_queried, memory.num_prefix_tokens_hit) == (18, 6)
    memory.check_integrity([first, second])


def test_a_text_that_is_all_known_still_runs_its_last_token() -> None:
    memory = make_memory(page_size=4)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8]
    first = make_session("a", [*prompt, 9], 7)
    memory.admit(first)
    run_all(memory, first)
    second = make_session("b", prompt, 7)
    memory.admit(second)
    assert second.num_run == 7
    check_kv(memory, second)


@pytest.mark.parametrize(
    ("sharing", "tenant", "num_run"),
    [
        ("all", "ann", 8),
        ("all", "bob", 8),
        ("tenant", "ann", 8),
        ("tenant", "bob", 0),
        ("off", "ann", 0),
    ],
)
def test_who_finds_whose_beginnings(sharing: PrefixSharing, tenant: str, num_run: int) -> None:
    memory = make_memory(prefix_sharing=sharing)
    first = make_session("a", [5] * 9, tenant="ann")
    memory.admit(first)
    run_all(memory, first)
    second = make_session("b", [5] * 9, tenant=tenant)
    memory.admit(second)
    assert second.num_run == num_run
    memory.release(first)
    memory.release(second)
    # Two full pages of the first; the second has run nothing of its own.
    assert memory.num_cached == len(memory.prefixes) == (0 if sharing == "off" else 2)


def test_a_fence_leaves_shared_pages_where_they_are() -> None:
    memory = make_memory(page_size=4)
    first = make_session("a", [1, 2, 3, 4, 5, 6, 7, 8, 9], 7)
    memory.admit(first)
    run_all(memory, first)
    second = make_session("b", [1, 2, 3, 4, 5, 6, 7, 8, 1, 1], 6)
    memory.admit(second)
    run_all(memory, second)
    assert first.table is not None and second.table is not None
    assert memory.grow(second, 16)
    writable = set(second.table.slots(second.committed_len - 1, 16))
    assert memory.fence(second, "draft-0")
    assert not writable & set(second.table.slots(0, 16))
    assert second.table.slots(0, 8) == first.table.slots(0, 8)
    for slot in writable:
        memory.pool.layers[0][:, :, slot] = torch.nan
    check_kv(memory, first)
    check_kv(memory, second)
    check_cached_kv(memory)
    memory.check_integrity([first, second])


def test_pages_that_only_the_cache_holds_are_given_up_for_those_who_need_them() -> None:
    memory = make_memory(num_pages=6)
    old = make_session("old", [5] * 13, 3)
    memory.admit(old)
    run_all(memory, old)
    memory.release(old)
    assert (memory.num_cached, memory.allocator.num_free) == (3, 3)
    new = make_session("new", [6] * 3, 20)
    memory.admit(new)
    assert memory.num_cached == 3
    assert memory.grow(new, 20)
    # Leaves first: what is left of the old text is its beginning.
    assert memory.num_cached == 1
    assert memory.prefixes.match([TokenId(5)] * 13).pages
    assert not memory.grow(new, 28), "the pool has six pages"
    assert memory.num_cached == 1, "given up for nothing"
    memory.check_integrity([new])


def test_a_session_that_does_not_fit_costs_the_cache_nothing() -> None:
    memory = make_memory(num_pages=6)
    old = make_session("old", [5] * 9, 3)
    memory.admit(old)
    run_all(memory, old)
    memory.release(old)
    running = make_session("running", [6] * 9, 3)
    memory.admit(running)
    assert (memory.num_cached, memory.allocator.num_free) == (2, 1)
    with pytest.raises(PoolExhausted):
        memory.admit(make_session("large", [7] * 15), num_spare=1)
    assert memory.num_cached == len(memory.prefixes) == 2
    # Its own beginning does not count as pages to be had.
    with pytest.raises(PoolExhausted):
        memory.admit(make_session("next", [5] * 16), num_spare=1)
    assert memory.num_cached == len(memory.prefixes) == 2
    memory.admit(make_session("next", [5] * 11), num_spare=0)


def test_promises_count_the_pages_that_are_shared() -> None:
    memory = make_memory(num_pages=16, page_size=4)
    first = make_session("a", [5] * 13, 3)
    memory.admit(first)
    run_all(memory, first)
    second = make_session("b", [5] * 13, 7)
    memory.admit(second)
    # Five pages at its end: three shared, one of its own, so one to come.
    assert second.table is not None and second.table.num_positions == 16
    assert len(memory.allocator._promises[second.page_owner]) == 1
