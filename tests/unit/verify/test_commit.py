"""Commits: what becomes final, what is emitted, and why a session ends."""

from dataclasses import replace

import pytest

from services.verify.commit import commit_round, finish
from services.verify.pass_items import PassItem, PassResult
from services.verify.session import Session
from shared.control.evidence.observation import Observation, Read
from shared.control.steps import TreeOutcome
from shared.ids import SessionId, TokenId
from shared.speculation.vocabulary import (
    KANGAROO,
    LAYERSKIP,
    SWIFT,
    Decision,
    Draft,
    FinishReason,
    ShadowRead,
    TokenSource,
)
from tests.unit.verify.builders import CONTEXT_LEN, WISHED, make_session

EOS = 2
ACCEPTED, RECOVERED = TokenSource.ACCEPTED, TokenSource.RECOVERED
BONUS, PLAIN = TokenSource.BONUS, TokenSource.PLAIN


def draft_of(session: Session, tokens: list[int]) -> Draft:
    chosen = tuple(TokenId(token) for token in tokens)
    return Draft(SessionId("s"), session.round_index, chosen, (0.5,) * len(tokens))


def result_of(session: Session, target: list[int]) -> PassResult:
    tokens = tuple(session.tokens[-1:]) * len(target)
    item = PassItem(session, tokens, session.num_run, 0, len(target))
    return PassResult(item, [TokenId(token) for token in target], None)


@pytest.mark.parametrize(
    ("drafts", "target", "emitted", "sources", "reason"),
    [
        ([], [11], [11], [PLAIN], None),
        ([], [EOS], [EOS], [PLAIN], FinishReason.STOP),
        ([11, 12], [11, 12, 13], [11, 12, 13], [ACCEPTED, ACCEPTED, BONUS], None),
        ([11, 12], [11, 15, 13], [11, 15], [ACCEPTED, RECOVERED], None),
        ([11, 12], [15, 12, 13], [15], [RECOVERED], None),
        # EOS first, in the middle, as bonus, as recovered.
        ([EOS], [EOS, 13], [EOS], [ACCEPTED], FinishReason.STOP),
        ([11, EOS], [11, EOS, 13], [11, EOS], [ACCEPTED, ACCEPTED], FinishReason.STOP),
        ([EOS, 11], [EOS, 11, 13], [EOS], [ACCEPTED], FinishReason.STOP),
        ([11, 12], [11, 12, EOS], [11, 12, EOS], [ACCEPTED, ACCEPTED, BONUS], FinishReason.STOP),
        ([11, 12], [11, EOS, 13], [11, EOS], [ACCEPTED, RECOVERED], FinishReason.STOP),
        ([EOS, 12], [11, 12, 13], [11], [RECOVERED], None),
    ],
)
def test_what_a_round_emits(
    drafts: list[int],
    target: list[int],
    emitted: list[int],
    sources: list[TokenSource],
    reason: FinishReason | None,
) -> None:
    session = make_session(num_generated=1, stop_token_ids=[EOS])
    before = list(session.tokens)
    draft = draft_of(session, drafts) if drafts else None
    event, found = commit_round(session, WISHED, draft, result_of(session, target), CONTEXT_LEN)
    assert (list(event.token_ids), list(event.sources), found) == (emitted, sources, reason)
    assert session.tokens == before + emitted
    assert session.num_run == len(session.tokens) - 1
    assert (event.round_index, session.round_index) == (0, 1)
    assert event.draft_len == len(drafts)
    assert event.decision.is_off == (not drafts)


@pytest.mark.parametrize(
    ("max_new_tokens", "emitted", "reason"),
    [
        (10, [11, 12, 13], None),
        (4, [11, 12, 13], FinishReason.LENGTH),
        (3, [11, 12], FinishReason.LENGTH),
        (2, [11], FinishReason.LENGTH),
    ],
)
def test_a_limit_cuts_a_round(
    max_new_tokens: int, emitted: list[int], reason: FinishReason | None
) -> None:
    session = make_session(num_generated=1, max_new_tokens=max_new_tokens)
    draft = draft_of(session, [11, 12])
    event, found = commit_round(
        session, WISHED, draft, result_of(session, [11, 12, 13]), CONTEXT_LEN
    )
    assert (list(event.token_ids), found) == (emitted, reason)
    assert session.summary.num_accepted_tokens == min(2, len(emitted))
    assert session.summary.num_emitted_in_drafts == len(emitted)


def test_a_replay_counts_what_was_emitted_before() -> None:
    # Two prompt tokens, three emitted elsewhere; four in all are wanted.
    session = make_session(prompt=range(5, 10), num_emitted=3, max_new_tokens=4)
    assert (session.prompt_len, session.num_emitted) == (2, 3)
    event, reason = commit_round(session, None, None, result_of(session, [11]), CONTEXT_LEN)
    assert (list(event.token_ids), reason) == ([11], FinishReason.LENGTH)


def test_a_minimum_length_counts_what_was_emitted_before() -> None:
    session = make_session(
        prompt=range(5, 10), num_emitted=3, stop_token_ids=[EOS], min_new_tokens=4
    )
    _, reason = commit_round(session, None, None, result_of(session, [EOS]), CONTEXT_LEN)
    assert reason is None
    _, reason = commit_round(session, WISHED, None, result_of(session, [EOS]), CONTEXT_LEN)
    assert reason is FinishReason.STOP


def test_the_end_of_a_prefill_is_no_round_of_speculation() -> None:
    session = make_session()
    event, _ = commit_round(session, None, None, result_of(session, [11]), CONTEXT_LEN)
    assert event.sources == (PLAIN,)
    assert session.summary.num_plain_rounds == 0
    assert session.is_decoding


def test_the_context_ends_a_session() -> None:
    session = make_session(max_new_tokens=100, num_generated=1)
    _, reason = commit_round(
        session, WISHED, None, result_of(session, [11]), len(session.tokens) + 1
    )
    assert reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("last", "reason", "stop_token_id"),
    [
        (EOS, FinishReason.STOP, EOS),
        (EOS, FinishReason.LENGTH, None),
        (11, FinishReason.LENGTH, None),
        (11, FinishReason.CANCELLED, None),
    ],
)
def test_the_last_event_names_the_token_that_stopped_the_session(
    last: int, reason: FinishReason, stop_token_id: int | None
) -> None:
    session = make_session(num_generated=1, stop_token_ids=[EOS])
    session.tokens[-1] = TokenId(last)
    session.first_token_ns = 40
    found = finish(session, reason, 100)
    assert (found.reason, found.stop_token_id) == (reason, stop_token_id)
    assert found.timings.decode_ns == 60


def test_a_draft_counts_with_the_decision_that_made_it() -> None:
    session = make_session(num_generated=1)
    decision = Decision("layerskip", 3, 2)
    draft = draft_of(session, [11])
    event, _ = commit_round(session, decision, draft, result_of(session, [11, 12]), CONTEXT_LEN)
    assert event.decision is decision
    assert session.summary.acceptance_histogram == [0, 1]


@pytest.mark.parametrize(
    ("target", "emitted", "tree"),
    [
        # Along the chain of first choices, to its end and off it.
        ([11, 14, 0, 16, 0, 0], [11, 14, 16], TreeOutcome(2, 2, 0)),
        ([11, 99, 0, 0, 0, 0], [11, 99], TreeOutcome(2, 2, 0)),
        # By a sibling: of the last draft, of the first and on.
        ([11, 15, 0, 0, 17, 0], [11, 15, 17], TreeOutcome(2, 2, 1)),
        ([12, 0, 13, 0, 0, 18], [12, 13, 18], TreeOutcome(2, 2, 2)),
        ([12, 0, 99, 0, 0, 0], [12, 99], TreeOutcome(2, 2, 1)),
        ([99, 0, 0, 0, 0, 0], [99], TreeOutcome(2, 1, 0)),
    ],
)
def test_of_a_tree_is_told_what_siblings_gained(
    target: list[int], emitted: list[int], tree: TreeOutcome
) -> None:
    session = make_session(num_generated=1)
    #   pending ─┬─ 11 ─┬─ 14        nodes 0, 2
    #            │      └─ 15        node 3
    #            └─ 12 ─── 13        nodes 1, 4
    draft = replace(draft_of(session, [11, 12, 14, 15, 13]), parents=(-1, -1, 0, 0, 1))
    event, _ = commit_round(session, WISHED, draft, result_of(session, target), CONTEXT_LEN)
    assert list(event.token_ids) == emitted
    assert event.tree == tree


def read_of(exit_layer: int, tokens: list[int], first_row: int = 0) -> ShadowRead:
    chosen = tuple(map(TokenId, tokens))
    return ShadowRead(exit_layer, chosen, (0.25,) * len(chosen), first_row)


@pytest.mark.parametrize(
    ("target", "kept", "expected"),
    [
        # All kept: exit 3 is known behind its last draft by the closing row.
        ([11, 12, 13], 3, {2: "+--", 3: "+++", 4: "-++"}),
        # Rows behind the first difference ran on a wrong prefix.
        ([11, 15, 13], 2, {2: "+-", 3: "+-", 4: "--"}),
        ([EOS, 12, 13], 1, {2: "-", 3: "-", 4: "-"}),
    ],
)
def test_a_round_shows_what_every_exit_said_of_its_tokens(
    target: list[int], kept: int, expected: dict[int, str]
) -> None:
    session = make_session(num_generated=1, stop_token_ids=[EOS])
    draft = replace(draft_of(session, [11, 12]), shadow=(read_of(2, [11, 14, 14]),))
    result = replace(
        result_of(session, target), shadow=(read_of(3, [13], 2), read_of(4, [14, 12, 13]))
    )
    event, _ = commit_round(session, Decision("layerskip", 3, 2), draft, result, CONTEXT_LEN)
    observation = event.observation
    assert observation is not None and observation.num_positions == kept == len(event.token_ids)
    marks = {
        exit_layer: "".join("+" if read and read.is_match else "-" for read in reads)
        for exit_layer, reads in observation.reads.items()
    }
    assert marks == expected
    assert observation.reads[3][0] == Read(target[0] == 11, 0.5)


@pytest.mark.parametrize(
    ("method", "max_draft_len", "confidences", "target", "matches"),
    [
        # Sure to the end of what was allowed: nobody knows of the position behind.
        (SWIFT, 2, (0.9, 0.9), [11, 12, 13], [True, True, None]),
        (SWIFT, 2, (0.9, 0.5), [11, 12, 13], [True, True, None]),
        # Ended for being unsure: nothing would have come next.
        (SWIFT, 4, (0.9, 0.5), [11, 12, 13], [True, True, False]),
        (KANGAROO, 4, (0.9, 0.5), [11, 12, 13], [True, True, False]),
        # Ended by something else, an end of sequence.
        (SWIFT, 4, (0.9, 0.9), [11, 12, 13], [True, True, None]),
        # Refused before that.
        (SWIFT, 4, (0.9, 0.5), [11, 15, 13], [True, False]),
        # An exit is read there by the closing row, or not at all.
        (LAYERSKIP, 4, (0.9, 0.5), [11, 12, 13], [True, True, None]),
    ],
)
def test_what_a_threshold_left_undrafted_is_not_kept_where_no_read_tells(
    method: str,
    max_draft_len: int,
    confidences: tuple[float, ...],
    target: list[int],
    matches: list[bool | None],
) -> None:
    session = make_session(num_generated=1)
    decision = Decision(method, 0 if method == SWIFT else 2, max_draft_len, 0.8)
    draft = replace(draft_of(session, [11, 12]), confidences=confidences)
    event, _ = commit_round(session, decision, draft, result_of(session, target), CONTEXT_LEN)
    assert event.observation is not None
    (reads,) = event.observation.reads.values()
    assert [None if each is None else each.is_match for each in reads] == matches


def test_a_plain_round_and_the_end_of_a_prefill_show_what_was_read_behind_them() -> None:
    session = make_session()
    event, _ = commit_round(session, None, None, result_of(session, [11]), CONTEXT_LEN)
    assert event.observation == Observation(1)
    result = replace(result_of(session, [12]), shadow=(read_of(2, [12]), read_of(3, [9])))
    event, _ = commit_round(session, WISHED, None, result, CONTEXT_LEN)
    assert event.observation == Observation(1, {2: [Read(True, 0.25)], 3: [Read(False, 0.25)]})
