"""Stretches and smoothed acceptance."""

import pytest

from shared.errors import Internal
from shared.rpc import shortstack_pb2 as pb
from shortstack.sessions.timeline import MEMORY_ROUNDS, smoothed_acceptance, stretches
from shortstack.sessions.values import timeline_from_proto
from tests.unit.sessions.builders import MIXED, drafted, plain


def test_a_stretch_ends_where_the_setting_changes_not_where_the_reason_does() -> None:
    rounds = [
        drafted(4, 3),
        drafted(2, 1, reason="hold", is_alarm=True),
        drafted(4, 3, exit_layer=4),
        drafted(4, 3, exit_layer=4, stop_threshold=0.5),
    ]
    first, *others = stretches(rounds)
    assert (first.reasons, first.num_alarms) == (("policy", "hold"), 1)
    assert (first.num_draft_tokens, first.num_accepted_tokens, first.num_emitted) == (6, 4, 6)
    assert first.mean_round_ms == 20.0
    assert [len(each.rounds) for each in others] == [1, 1]


def test_plain_rounds_are_cut_by_reason_and_lost_drafts_are_plain() -> None:
    lost = drafted(0, 0)
    rounds = [plain("cold"), plain("cold"), plain("guard"), lost, drafted(4, 3)]
    cut = stretches(rounds)
    assert [each.reasons for each in cut] == [("cold",), ("guard",), ("policy",), ("policy",)]
    assert [each.first.is_plain for each in cut] == [True, True, True, False]
    assert sum(len(each.rounds) for each in stretches(MIXED.rounds)) == len(MIXED.rounds)


def test_acceptance_is_weighed_by_drafts_and_fades() -> None:
    first, second = smoothed_acceptance([drafted(4, 4), drafted(1, 0)])
    keep = 1 - 1 / MEMORY_ROUNDS
    assert first == 1.0
    assert second == pytest.approx(4 * keep / (4 * keep + 1))
    settled = smoothed_acceptance([drafted(4, 4)] * 50 + [drafted(4, 1)] * 100)[-1]
    assert settled == pytest.approx(0.25, abs=0.001)


def test_plain_rounds_have_no_acceptance_and_change_none() -> None:
    with_gap = smoothed_acceptance([drafted(4, 2), plain("shed"), plain("shed"), drafted(4, 4)])
    without = smoothed_acceptance([drafted(4, 2), drafted(4, 4)])
    assert with_gap == [without[0], None, None, without[1]]


def test_columns_that_do_not_fit_are_an_error() -> None:
    for columns in (pb.RoundColumns(draft_lens=[1]), columns_with_unknown_method()):
        with pytest.raises(Internal, match="do not fit"):
            timeline_from_proto(pb.GetSessionTimelineResponse(rounds=columns))


def columns_with_unknown_method() -> pb.RoundColumns:
    """Return a round whose method has no name."""
    columns = pb.RoundColumns()
    for field in columns.DESCRIPTOR.fields:
        if field.name not in ("method_names", "reason_names"):
            getattr(columns, field.name).append(0)
    return columns
