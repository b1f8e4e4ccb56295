"""Shadow reads: which exits are read behind whose rows, as evidence. Pure.

    exit     without a draft   behind a draft of k at E
    e < E    -                 draft worker: rows 0 .. k, as they pass e
    e = E    -                 the drafts are what it says of rows 0 .. k-1;
                               verify worker: row k, the closing row; rows 0 .. k if E is wished:
                               the next best tokens behind them did not come with the drafts
    e > E    verify worker     verify worker: rows 0 .. k, as they pass e

So every exit is known at every position that the round commits, whatever was accepted; but for the
closing row E would be known at all but the last one of a draft that was kept whole. Where what
drafts is no early read-out, an adapter or a skip set, its drafts say nothing of the exit that
verification resumes at, which is then read like those above it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.verify.session import Session
from shared.ids import SessionId
from shared.speculation.arm import arm_in_use, is_read_out
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import Decision, Draft, RoundTask

CLOSING_ROW = -1

# Exits to be read, by session.
Shadow = Mapping[SessionId, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ExitWish:
    """An exit to be read in the verify pass, behind rows first_row and on of those with a head.

    first_row: from 0; CLOSING_ROW stands for the last one.
    """

    exit_layer: int
    first_row: int = 0


class ShadowPlan(NamedTuple):
    """Who reads what: exits for the draft worker, ascending, and wishes for the verify pass."""

    draft_exits: tuple[int, ...]
    verify_wishes: tuple[ExitWish, ...]


def shadow_plan(decision: Decision, exits: Iterable[int]) -> ShadowPlan:
    """Return how these exits become known in a round; with a draft its own exit always does."""
    wished = sorted(set(exits))
    if decision.is_off:
        return ShadowPlan((), tuple(ExitWish(each) for each in wished))
    own = method_named(decision.method).resume_layer(decision)
    passed = tuple(each for each in wished if each < own)
    if is_read_out(arm_in_use(decision)):
        deeper = (ExitWish(each) for each in wished if each > own)
        own_row = 0 if own in wished else CLOSING_ROW
        return ShadowPlan(passed, (ExitWish(own, own_row), *deeper))
    return ShadowPlan(passed, tuple(ExitWish(each) for each in wished if each >= own))


def shadow_of(decoding: Iterable[tuple[Session, Decision]], shadow: Shadow) -> Shadow:
    """Return the part of a mapping that is about these sessions."""
    ids = (session.session_id for session, _ in decoding)
    return {each: shadow[each] for each in ids if each in shadow}


def make_tasks(
    drafting: Sequence[tuple[Session, Decision]], shadow: Shadow
) -> Iterator[tuple[Session, RoundTask]]:
    """Iterate over the rounds to be ordered, with the exits to be read on the way."""
    for session, decision in drafting:
        exits = shadow.get(session.session_id, ())
        yield session, session.make_task(decision, shadow_plan(decision, exits).draft_exits)


def shadow_fault(draft: Draft, task: RoundTask, vocab_size: int) -> str:
    """Return what is wrong with the reads that came with a draft; nothing: an empty text."""
    exits = tuple(read.exit_layer for read in draft.shadow)
    if exits != task.shadow_exits:
        return f"exits {exits} were read where {task.shadow_exits} were asked"
    num_rows = len(draft.draft_tokens) + 1
    for read in draft.shadow:
        if read.first_row or not len(read.tokens) == len(read.confidences) == num_rows:
            return f"exit {read.exit_layer} was not read behind all {num_rows} rows"
        if any(not 0 <= token < vocab_size for token in read.tokens):
            return f"a choice of exit {read.exit_layer} lies outside the vocabulary"
    return ""
