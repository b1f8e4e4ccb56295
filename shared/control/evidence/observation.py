"""What the exits said at the positions that one round committed. Pure.

    row             0 (pending)   1 ... a          a+1 ... k
    predicts        y[n]          y[n+1] ...       -
    on the path     yes           yes              no: a wrong prefix, never counted

Every committed position is covered by exactly one on-path row, whatever exit layer, draft length
and threshold were in force; so what is counted here depends on none of them. Of a tree the rows on
the path are those of the accepted nodes, wherever among the others they lie; what the exit in use
chose behind one of them is its first child.

Where a threshold ended the draft, its arm has nothing for the position behind. An exit is read
there all the same (the closing row). What no read shows, an adapter or a skip set, counts as not
kept: else later places were counted where drafts are sure alone, and seemed to be kept always.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.ids import TokenId
from shared.speculation.tree import rows_of
from shared.speculation.vocabulary import Draft, ShadowRead

# Of the next best tokens behind a row so many are looked through for the committed one.
NUM_RANKS = 3


@dataclass(frozen=True, slots=True)
class Read:
    """One exit at one position: whether it chose the committed token, how confident it was."""

    is_match: bool
    confidence: float


NOT_DRAFTED = Read(is_match=False, confidence=0.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """What a round showed.

    num_positions: committed and emitted, at least 0; nothing behind an end of the session counts.
        Without any reads they may be of several rounds, plain ones of one position each.
    reads: by arm, one entry per position; None where that arm was not read.
    miss_ranks: by arm, where among its next best the committed token stood, for each position at
        which it chose another one and these were asked for: 1 is the second best; 0: nowhere.
    """

    num_positions: int
    reads: Mapping[int, Sequence[Read | None]] = field(default_factory=dict)
    miss_ranks: Mapping[int, Sequence[int]] = field(default_factory=dict)


def observe(
    committed: Sequence[TokenId],
    arm: int,
    draft: Draft | None,
    shadow: Iterable[ShadowRead],
    path: Sequence[int] = (),
    *,
    is_cut: bool = False,
) -> Observation:
    """Return what a round's reads say of the tokens that it committed.

    Args:
        committed: tokens kept of the round, accepted drafts first.
        arm: that drafted; of no meaning without a draft.
        draft: the round's draft, whose tokens are the arm's own choices; None in a plain round.
        shadow: reads of other exits, and of E behind the last draft, or all rows of a tree.
        path: the nodes of a tree that were accepted.
        is_cut: whether a threshold ended the draft, of an arm that is known from its drafts alone.
    """
    num_positions = len(committed)
    reads: dict[int, list[Read | None]] = {}
    is_tree = draft is not None and bool(draft.parents)
    rows = rows_of(path, num_positions) if is_tree else range(num_positions)
    place_of = {row: place for place, row in enumerate(rows)}

    def note(layer: int, row: int, token: TokenId, confidence: float) -> None:
        place = place_of.get(row)
        if place is not None:
            places = reads.setdefault(layer, [None] * num_positions)
            places[place] = Read(token == committed[place], confidence)

    miss_ranks: dict[int, list[int]] = {}
    for each in shadow:
        for row, (token, confidence) in enumerate(
            zip(each.tokens, each.confidences, strict=True), each.first_row
        ):
            note(each.exit_layer, row, token, confidence)
        for row, ranked in enumerate(each.candidates, each.first_row):
            place = place_of.get(row)
            if place is not None and each.tokens[row - each.first_row] != committed[place]:
                rank = ranked.index(committed[place]) + 1 if committed[place] in ranked else 0
                miss_ranks.setdefault(each.exit_layer, []).append(rank)
    if draft is not None:
        for row, (token, confidence) in _own_choices(draft):
            note(arm, row, token, confidence)
        if is_cut and len(draft.draft_tokens) < num_positions:
            reads[arm][len(draft.draft_tokens)] = NOT_DRAFTED
    return Observation(num_positions, reads, miss_ranks)


def _own_choices(draft: Draft) -> Iterable[tuple[int, tuple[TokenId, float]]]:
    """Return what the exit in use chose, by the row behind which it did."""
    choices = zip(draft.draft_tokens, draft.confidences, strict=True)
    if not draft.parents:
        return enumerate(choices)
    # Later children of a node are its next best: the first one stays.
    first: dict[int, tuple[TokenId, float]] = {}
    for parent, choice in zip(draft.parents, choices, strict=True):
        first.setdefault(parent + 1, choice)
    return first.items()
