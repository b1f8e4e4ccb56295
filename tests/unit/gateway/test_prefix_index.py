"""What a cell has seen of a prompt is known block by block, and within bounds."""

from services.gateway.prefix_index import MAX_BLOCKS, PrefixIndex, prefix_hashes


def test_prompts_share_the_hashes_of_their_common_blocks_only() -> None:
    first = prefix_hashes([1, 2, 3, 4, 5, 6, 7], block_len=2)
    second = prefix_hashes([1, 2, 3, 9, 5, 6, 7], block_len=2)
    assert len(first) == len(second) == 3
    assert first[0] == second[0]
    # The third block is the same, but not what came before it.
    assert not set(first[1:]) & set(second[1:])
    assert prefix_hashes([1], block_len=2) == ()
    assert len(prefix_hashes(range(2 * MAX_BLOCKS + 50), block_len=2)) == MAX_BLOCKS


def test_what_a_cell_has_seen_is_known_up_to_the_first_unknown_block() -> None:
    index = PrefixIndex()
    index.note("a", (1, 2, 3))
    assert index.num_known("a", (1, 2, 3, 4)) == 3
    assert index.num_known("a", (1, 9, 3)) == 1
    assert index.num_known("a", (9, 2, 3)) == 0
    assert index.num_known("b", (1, 2, 3)) == 0
    assert index.num_known("a", ()) == 0


def test_the_least_recently_used_end_of_a_prompt_is_forgotten_first() -> None:
    index = PrefixIndex(max_hashes=4)
    index.note("a", (1, 2, 3))
    index.note("a", (7, 8))
    assert index.num_known("a", (1, 2, 3)) == 2
    assert index.num_known("a", (7, 8)) == 2
    index.note("a", (1, 2))
    index.note("a", (5, 6))
    assert index.num_known("a", (1, 2)) == 2
    assert index.num_known("a", (7, 8)) == 0


def test_cells_that_are_gone_are_forgotten() -> None:
    index = PrefixIndex()
    for cell in ("a", "b"):
        index.note(cell, (1,))
    index.keep_only({"b"})
    assert [index.num_known(cell, (1,)) for cell in ("a", "b")] == [0, 1]
