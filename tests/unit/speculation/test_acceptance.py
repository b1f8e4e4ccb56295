"""Acceptance by hand-made choices: the target never, always, sometimes agrees."""

import pytest

from shared.ids import TokenId
from shared.speculation.acceptance import cut_at_finish, judge
from shared.speculation.vocabulary import FinishReason, StopParams, TokenSource, Verdict

EOS = 2


def ids(*values: int) -> tuple[TokenId, ...]:
    return tuple(TokenId(value) for value in values)


def test_a_target_that_never_agrees_recovers_its_first_choice() -> None:
    verdict = judge(ids(10, 11, 12), ids(20, 21, 22, 23))
    assert verdict == Verdict(0, TokenId(20), TokenSource.RECOVERED)


def test_a_target_that_always_agrees_adds_a_bonus_token() -> None:
    verdict = judge(ids(10, 11, 12), ids(10, 11, 12, 13))
    assert verdict == Verdict(3, TokenId(13), TokenSource.BONUS)


def test_a_target_that_sometimes_agrees_keeps_the_longest_prefix() -> None:
    verdict = judge(ids(10, 11, 12), ids(10, 11, 99, 13))
    assert verdict == Verdict(2, TokenId(99), TokenSource.RECOVERED)


def test_agreement_behind_the_first_difference_does_not_count() -> None:
    verdict = judge(ids(10, 11, 12), ids(99, 11, 12, 13))
    assert verdict == Verdict(0, TokenId(99), TokenSource.RECOVERED)


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (ids(10, 11), Verdict(1, TokenId(11), TokenSource.BONUS)),
        (ids(11, 10), Verdict(0, TokenId(11), TokenSource.RECOVERED)),
    ],
)
def test_a_draft_of_one_is_kept_or_not(target: tuple[TokenId, ...], verdict: Verdict) -> None:
    assert judge(ids(10), target) == verdict


def test_an_empty_draft_is_a_plain_round() -> None:
    assert judge((), ids(7)) == Verdict(0, TokenId(7), TokenSource.PLAIN)


def test_equal_drafts_in_a_row_are_judged_by_place() -> None:
    verdict = judge(ids(5, 5, 5), ids(5, 5, 6, 5))
    assert verdict == Verdict(2, TokenId(6), TokenSource.RECOVERED)


def test_an_end_inside_the_draft_is_judged_like_any_token() -> None:
    verdict = judge(ids(10, EOS, 12), ids(10, EOS, 12, 13))
    assert verdict == Verdict(3, TokenId(13), TokenSource.BONUS)


@pytest.mark.parametrize("target", [(), ids(1), ids(1, 2), ids(1, 2, 3, 4)])
def test_choices_that_do_not_fit_the_draft_are_refused(target: tuple[TokenId, ...]) -> None:
    with pytest.raises(ValueError, match="2 drafts need 3 choices"):
        judge(ids(1, 2), target)


def test_only_choices_of_the_target_are_emitted() -> None:
    draft, target = ids(1, 2, 3, 4), ids(1, 2, 7, 4, 5)
    verdict = judge(draft, target)
    emitted = (*draft[: verdict.num_accepted], verdict.next_token)
    assert emitted == target[: verdict.num_accepted + 1]


def stop(limit: int, *, ends: tuple[int, ...] = (EOS,), least: int = 0) -> StopParams:
    return StopParams(limit, frozenset(ends), least)


def test_a_round_without_an_end_is_emitted_whole() -> None:
    assert cut_at_finish(ids(5, 6, 7), 10, stop(100)) == (3, None)


def test_a_round_is_cut_behind_its_first_end() -> None:
    assert cut_at_finish(ids(5, EOS, 7, EOS), 0, stop(100)) == (2, FinishReason.STOP)


def test_an_end_at_the_first_place_is_emitted() -> None:
    assert cut_at_finish(ids(EOS, 6), 0, stop(100)) == (1, FinishReason.STOP)


def test_an_end_as_the_bonus_token_ends_the_session() -> None:
    assert cut_at_finish(ids(5, 6, EOS), 0, stop(100)) == (3, FinishReason.STOP)


def test_a_round_is_cut_at_the_token_limit() -> None:
    assert cut_at_finish(ids(5, 6, 7), 8, stop(10)) == (2, FinishReason.LENGTH)


def test_the_limit_reached_exactly_ends_the_session() -> None:
    assert cut_at_finish(ids(5, 6), 8, stop(10)) == (2, FinishReason.LENGTH)
    assert cut_at_finish(ids(5), 8, stop(10)) == (1, None)


def test_an_end_on_the_last_token_allowed_is_a_stop() -> None:
    assert cut_at_finish(ids(5, EOS), 8, stop(10)) == (2, FinishReason.STOP)


def test_a_limit_before_the_end_wins() -> None:
    assert cut_at_finish(ids(5, EOS), 9, stop(10)) == (1, FinishReason.LENGTH)


def test_ends_do_not_count_before_the_least_number_of_tokens() -> None:
    assert cut_at_finish(ids(EOS, 5, EOS), 0, stop(100, least=2)) == (3, FinishReason.STOP)
    assert cut_at_finish(ids(EOS, EOS), 0, stop(100, least=2)) == (2, None)


def test_without_ends_only_the_limit_counts() -> None:
    assert cut_at_finish(ids(EOS, EOS), 0, stop(100, ends=())) == (2, None)


def test_any_of_several_ends_stops() -> None:
    assert cut_at_finish(ids(5, 9, EOS), 0, stop(100, ends=(EOS, 9))) == (2, FinishReason.STOP)


def test_no_tokens_change_nothing() -> None:
    assert cut_at_finish((), 3, stop(10)) == (0, None)
