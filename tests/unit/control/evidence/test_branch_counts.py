"""What siblings would have brought: counted along the text, and told once enough is known."""

import pytest

from shared.control.evidence.branch_counts import (
    MAX_DRAFTS,
    MAX_RANKED,
    MIN_RANKED,
    NUM_DOUBTED,
    THRESHOLDS,
    BranchCounts,
)
from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.observation import Observation, Read, observe
from shared.ids import SessionId, TokenId
from shared.speculation.vocabulary import Draft, ShadowRead

KEPT, REFUSED = Read(True, 0.75), Read(False, 0.5)
# Of twelve refused drafts the target's choice was the next best, the third, the one behind, none.
RANKS = (1,) * 6 + (2,) * 3 + (3, 0, 0)
NOTHING = BranchCounts()


def ids(*tokens: int) -> tuple[TokenId, ...]:
    return tuple(map(TokenId, tokens))


def test_hits_and_unsure_shares_are_those_counted() -> None:
    counts = BranchCounts()
    counts.note([KEPT, None, KEPT, KEPT, REFUSED], RANKS)
    odds = counts.odds(NOTHING)
    assert odds is not None
    num = len(RANKS) + NUM_DOUBTED
    assert odds.sibling_hits == (6 / num, 9 / num, 10 / num)
    shares = {each.threshold: each[1:] for each in odds.unsure}
    assert tuple(shares) == THRESHOLDS
    assert shares[0.45] == (0.0, 0.0, 0.0)
    assert shares[0.55] == shares[0.65] == (0.25, 0.0, 1.0)
    assert shares[0.8] == (1.0, 1.0, 1.0)


def test_a_confidence_at_a_threshold_is_not_below_it() -> None:
    counts = BranchCounts()
    counts.note([Read(True, 0.8), REFUSED], RANKS)
    odds = counts.odds(NOTHING)
    assert odds is not None
    assert [each.of_kept for each in odds.unsure] == [0.0] * 7 + [1.0]


@pytest.mark.parametrize(
    ("reads", "ranks"),
    [([KEPT, REFUSED], RANKS[1:]), ([KEPT], RANKS), ([REFUSED], RANKS), ([], ())],
)
def test_while_little_is_known_nothing_is_told(reads: list[Read], ranks: tuple[int, ...]) -> None:
    assert len(RANKS) == MIN_RANKED
    counts = BranchCounts()
    counts.note(reads, ranks)
    assert counts.odds(NOTHING) is None


def test_old_counts_fade() -> None:
    counts = BranchCounts()
    for _ in range(int(4 * MAX_DRAFTS)):
        counts.note([KEPT, REFUSED], (0,))
    for _ in range(int(4 * MAX_RANKED)):
        counts.note([REFUSED] * 16, (1,))
    odds = counts.odds(NOTHING)
    assert odds is not None
    assert odds.sibling_hits[0] > 0.9
    assert odds.unsure[-1].of_refused == 1.0
    assert sum(counts._ranks) <= MAX_RANKED


def test_ranks_are_those_of_committed_tokens_among_the_next_best() -> None:
    draft = Draft(SessionId("s"), 0, ids(5, 6, 9), (0.5,) * 3)
    own = ShadowRead(3, ids(5, 6, 9, 4), (0.5,) * 4, 0, (ids(1), ids(2), ids(8, 7), ids(3)))
    deeper = ShadowRead(4, ids(5, 8, 1, 4), (0.5,) * 4, 0, (ids(1), ids(9), ids(2), ids(3)))
    observation = observe(ids(5, 6, 7), 3, draft, [own, deeper])
    # Exit 3 misses the third token, its third best; exit 4 the second and third, without a trace.
    assert observation.miss_ranks == {3: [2], 4: [0, 0]}
    assert [read and read.is_match for read in observation.reads[3]] == [True, True, False]
    # Without next best nothing is known of ranks.
    assert observe(ids(5, 7), 3, draft, [ShadowRead(4, ids(5, 8), (0.5,) * 2)]).miss_ranks == {}


def test_of_a_tree_the_rows_on_the_path_count() -> None:
    #   pending ─┬─ 5 ── 6
    #            └─ 7 ── 8        the target chose 7, then 9
    draft = Draft(SessionId("s"), 0, ids(5, 7, 6, 8), (0.5,) * 4, parents=(-1, -1, 0, 1))
    read = ShadowRead(3, ids(5, 6, 8, 1, 1), (0.5,) * 5, 0, tuple(ids(7, 9) for _ in range(5)))
    assert observe(ids(7, 9), 3, draft, [read], (1,)).miss_ranks == {3: [1, 2]}


def test_a_session_begins_with_what_others_of_its_class_showed() -> None:
    book = EvidenceBook((3,))
    for key in ("a", "b", "c"):
        book.open(key, "warm" if key == "c" else "greedy")
    book.note("a", Observation(2, {3: [KEPT, REFUSED]}, {3: RANKS}), 3)
    assert book.branch_odds("a", 3) is not None
    assert book.branch_odds("b", 3) is not None
    assert book.branch_odds("b", 4) is None
    assert book.branch_odds("c", 3) is None
    book.forget("a")
    assert book.branch_odds("b", 3) is not None
