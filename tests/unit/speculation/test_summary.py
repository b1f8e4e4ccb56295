"""SpeculationSummary: counts of rounds, and sums over sessions."""

from shared.speculation.vocabulary import SpeculationSummary


def test_a_new_summary_is_all_zero_and_divides_by_nothing() -> None:
    summary = SpeculationSummary()
    assert summary.acceptance_rate == 0.0
    assert summary.mean_emitted_len == 0.0
    assert summary.acceptance_histogram == []


def test_rounds_are_counted_by_what_was_drafted_accepted_and_emitted() -> None:
    summary = SpeculationSummary()
    summary.count(4, 4, 5)
    summary.count(4, 1, 2)
    summary.count(2, 0, 1)
    assert (summary.num_drafts, summary.num_draft_tokens) == (3, 10)
    assert (summary.num_accepted_tokens, summary.num_emitted_in_drafts) == (5, 8)
    assert summary.acceptance_histogram == [1, 1, 0, 0, 1]
    assert summary.acceptance_rate == 0.5
    assert summary.mean_emitted_len == 8 / 3


def test_plain_rounds_are_counted_apart() -> None:
    summary = SpeculationSummary()
    summary.count(0, 0, 1)
    summary.count(0, 0, 1)
    assert summary.num_plain_rounds == 2
    assert summary == SpeculationSummary(num_plain_rounds=2)


def test_tokens_cut_off_by_a_finish_are_not_emitted() -> None:
    summary = SpeculationSummary()
    summary.count(4, 3, 2)
    assert summary.num_accepted_tokens == 3
    assert summary.mean_emitted_len == 2.0


def test_summaries_add_up_whatever_their_histograms_length() -> None:
    short, long = SpeculationSummary(), SpeculationSummary()
    short.count(1, 1, 2)
    long.count(4, 3, 4)
    long.count(0, 0, 1)
    both, reverse = SpeculationSummary(), SpeculationSummary()
    for summary in (short, long):
        both.add(summary)
    for summary in (long, short):
        reverse.add(summary)
    assert both == reverse
    assert both.acceptance_histogram == [0, 1, 0, 1]
    assert (both.num_drafts, both.num_draft_tokens, both.num_plain_rounds) == (2, 5, 1)


def test_adding_leaves_the_other_summary_alone() -> None:
    total, one = SpeculationSummary(), SpeculationSummary()
    one.count(2, 1, 2)
    total.add(one)
    total.add(one)
    assert one.acceptance_histogram == [0, 1]
    assert total.acceptance_histogram == [0, 2]
