"""Who reads which exit behind which rows, and which reads of a draft worker are sound."""

from dataclasses import replace

import pytest

from services.verify.pass_items import make_items
from services.verify.scheduler import Plan
from services.verify.session import Session
from services.verify.shadow import (
    CLOSING_ROW,
    ExitWish,
    make_tasks,
    shadow_fault,
    shadow_of,
    shadow_plan,
)
from shared.ids import TokenId
from shared.speculation.vocabulary import (
    KANGAROO,
    LAYERSKIP,
    PLAIN_DECISION,
    Decision,
    Draft,
    RoundTask,
    ShadowRead,
)
from tests.unit.verify.builders import WISHED, make_memory, make_session

EXITS = (2, 3, 4, 6)
VOCAB_SIZE = 50


def at(exit_layer: int) -> Decision:
    return Decision(LAYERSKIP, exit_layer, 4)


@pytest.mark.parametrize(
    ("decision", "draft_exits", "verify_wishes"),
    [
        (PLAIN_DECISION, (), [(2, 0), (3, 0), (4, 0), (6, 0)]),
        (replace(at(3), max_draft_len=0), (), [(2, 0), (3, 0), (4, 0), (6, 0)]),
        (at(2), (), [(2, 0), (3, 0), (4, 0), (6, 0)]),
        (at(3), (2,), [(3, 0), (4, 0), (6, 0)]),
        (at(6), (2, 3, 4), [(6, 0)]),
        # An exit in use that is none of those wished.
        (at(5), (2, 3, 4), [(5, CLOSING_ROW), (6, 0)]),
    ],
)
def test_shallower_exits_are_the_draft_workers_and_the_others_the_verify_workers(
    decision: Decision, draft_exits: tuple[int, ...], verify_wishes: list[tuple[int, int]]
) -> None:
    expected = (draft_exits, tuple(ExitWish(*each) for each in verify_wishes))
    assert shadow_plan(decision, EXITS) == expected
    assert shadow_plan(decision, [6, 4, 2, 3, 3]) == expected


def test_with_no_exits_wished_the_one_in_use_is_read_behind_the_draft() -> None:
    assert shadow_plan(at(3), ()) == ((), (ExitWish(3, CLOSING_ROW),))
    assert shadow_plan(PLAIN_DECISION, ()) == ((), ())


def test_drafts_of_an_adapter_say_nothing_of_the_exit_that_it_hangs_on() -> None:
    plan = shadow_plan(Decision(KANGAROO, 3, 4), EXITS)
    assert plan.draft_exits == tuple(each for each in EXITS if each < 3)
    assert plan.verify_wishes == tuple(ExitWish(each) for each in EXITS if each >= 3)


def running_session(session_id: str) -> Session:
    session = make_session(session_id, num_generated=1)
    memory = make_memory()
    memory.admit(session)
    return session


def draft_of(session: Session, *tokens: int) -> Draft:
    chosen = tuple(TokenId(token) for token in tokens)
    return Draft(session.session_id, session.round_index, chosen, (0.5,) * len(tokens))


def test_a_pass_reads_what_is_wished_of_its_sessions_and_nothing_of_others() -> None:
    drafted, late, plain, unwatched = (running_session(name) for name in "abcd")
    decoding = ((drafted, at(3)), (late, at(3)), (plain, PLAIN_DECISION), (unwatched, at(3)))
    shadow = {each.session_id: EXITS for each in (drafted, late, plain)}
    drafts = {each.session_id: draft_of(each, 7, 8) for each in (drafted, unwatched)}
    items = {item.session: item for item in make_items(Plan(decoding, (), shadow), drafts)}
    assert items[drafted].reads == shadow_plan(at(3), EXITS).verify_wishes
    # Its draft did not come: its row runs through all layers.
    assert items[late].resume_layer == 0
    assert items[late].reads == items[plain].reads == tuple(ExitWish(each) for each in EXITS)
    assert items[unwatched].reads == ()


def test_rounds_are_ordered_with_the_exits_below_their_own() -> None:
    watched, unwatched = running_session("a"), running_session("b")
    drafting = [(watched, at(4)), (unwatched, at(4))]
    shadow = {watched.session_id: EXITS, running_session("c").session_id: EXITS}
    tasks = dict(make_tasks(drafting, shadow))
    assert tasks[watched].shadow_exits == (2, 3)
    assert tasks[unwatched].shadow_exits == ()
    assert shadow_of(drafting, shadow) == {watched.session_id: EXITS}


def read(exit_layer: int, *tokens: int) -> ShadowRead:
    return ShadowRead(exit_layer, tuple(map(TokenId, tokens)), (0.5,) * len(tokens))


SOUND = (read(2, 5, 6, 7), read(3, 5, 6, 7))


def watched_round() -> tuple[RoundTask, Draft]:
    session = running_session("a")
    draft = replace(draft_of(session, 7, 8), shadow=SOUND)
    return session.make_task(WISHED, (2, 3)), draft


def test_reads_of_all_exits_behind_all_rows_are_sound() -> None:
    task, draft = watched_round()
    assert shadow_fault(draft, task, VOCAB_SIZE) == ""
    unwatched = replace(task, shadow_exits=())
    assert shadow_fault(replace(draft, shadow=()), unwatched, VOCAB_SIZE) == ""


@pytest.mark.parametrize(
    ("shadow", "text"),
    [
        ((), r"exits \(\) were read where \(2, 3\)"),
        (SOUND[:1], r"exits \(2,\) were read"),
        (SOUND[::-1], r"exits \(3, 2\) were read"),
        ((*SOUND, read(4, 5, 6, 7)), r"exits \(2, 3, 4\) were read"),
        ((SOUND[0], read(3, 5, 6)), "exit 3 was not read behind all 3 rows"),
        ((SOUND[0], read(3, 5, 6, 7, 8)), "exit 3 was not read behind all 3 rows"),
        ((SOUND[0], replace(SOUND[1], confidences=(0.5,))), "exit 3 was not read behind"),
        ((SOUND[0], replace(SOUND[1], first_row=1)), "exit 3 was not read behind"),
        ((SOUND[0], read(3, 5, 6, VOCAB_SIZE)), "exit 3 lies outside the vocabulary"),
    ],
)
def test_reads_that_do_not_fit_their_round_are_named(
    shadow: tuple[ShadowRead, ...], text: str
) -> None:
    task, draft = watched_round()
    with pytest.raises(AssertionError, match=text):
        fault = shadow_fault(replace(draft, shadow=shadow), task, VOCAB_SIZE)
        assert not fault, fault
