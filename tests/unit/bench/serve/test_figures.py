"""Windows and what is counted in them; percentiles; medians over repeats."""

from dataclasses import replace

import pytest

from shortstack.bench.serve.figures import (
    Spread,
    figures_of,
    median_figures,
    median_spread,
    percentile,
    spread_of,
)
from shortstack.bench.serve.pages import CellPeaks, PoolPages
from shortstack.bench.serve.result import Outcome
from shortstack.bench.serve.window import LoadRun, Window, closed_window, open_window
from tests.unit.bench.serve.builders import MS, result, server_side


def make_run(*results: object, dry_ms: float, ended_ms: float) -> LoadRun:
    return LoadRun(list(results), 0, int(dry_ms * MS), int(ended_ms * MS))  # type: ignore[arg-type]


def test_percentiles_lie_between_values() -> None:
    values = [0.0, 10.0, 20.0, 30.0, 40.0]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 1.0)] == [0, 20, 38, 40]
    assert percentile([7.0], 0.99) == 7


def test_a_spread_is_in_milliseconds_and_of_any_order() -> None:
    spread = spread_of([3 * MS, MS, 2 * MS])
    assert spread is not None
    assert (spread.p50, spread.num) == (2, 3)
    assert spread_of([]) is None


def test_a_closed_loop_stands_from_the_last_first_token_until_a_client_is_idle() -> None:
    run = make_run(
        result(0, [(10, 1), (20, 1)], index=0),
        result(0, [(30, 1), (40, 1)], index=1),
        result(20, [(50, 1), (60, 1)], index=2),
        result(40, [(70, 1), (90, 1)], index=3),
        dry_ms=60,
        ended_ms=90,
    )
    window = closed_window(run, 2)
    assert window == Window(30 * MS, 60 * MS, is_steady=True)
    figures = figures_of(run, window, None)
    # In (30, 60]: tokens at 40, 50 and 60.
    assert figures.tok_s == pytest.approx(3 / 0.030)
    assert figures.num_tokens == 8
    # Sent in the window: only the last request, though its token came later.
    assert figures.ttft_ms == Spread(30, 30, 30, 1)
    # Gaps wholly inside: 30 to 40 and 50 to 60.
    assert figures.tbt_ms == Spread(10, 10, 10, 2)


def test_a_request_without_tokens_ends_its_ramp_when_it_ends() -> None:
    failed = result(0, index=0, outcome=Outcome.FAILED, ended_ms=5)
    run = make_run(failed, result(5, [(10, 1), (20, 1)], index=1), dry_ms=20, ended_ms=20)
    assert closed_window(run, 1) == Window(5 * MS, 20 * MS, is_steady=True)


def test_a_load_that_never_stood_counts_as_a_whole_and_says_so() -> None:
    run = make_run(
        result(0, [(10, 1)], index=0), result(0, [(90, 1)], index=1), dry_ms=10, ended_ms=90
    )
    assert closed_window(run, 2) == Window(0, 90 * MS, is_steady=False)
    assert not closed_window(run, 3).is_steady
    assert figures_of(run, closed_window(run, 2), None).ttft_ms == Spread(50, 86, 89.2, 2)


def test_an_open_loop_stands_behind_its_first_tenth_until_the_last_arrival() -> None:
    results = [result(10.0 * i, [(10.0 * i + 5, 2)], index=i) for i in range(20)]
    window = open_window(make_run(*results, dry_ms=190, ended_ms=195))
    assert (window.start_ns, window.end_ns) == (20 * MS - 1, 190 * MS)
    figures = figures_of(make_run(*results, dry_ms=190, ended_ms=195), window, None)
    assert figures.ttft_ms is not None and figures.ttft_ms.num == 18


def test_messages_of_several_tokens_count_once_between_and_for_each_token() -> None:
    run = make_run(result(0, [(0, 1), (40, 4), (50, 1)]), dry_ms=50, ended_ms=50)
    figures = figures_of(run, run.whole(), None)
    assert figures.tbt_ms is not None and figures.tbt_token_ms is not None
    assert (figures.tbt_ms.p50, figures.tbt_ms.num) == (25, 2)
    assert (figures.tbt_token_ms.p50, figures.tbt_token_ms.num) == (10, 5)


def test_outcomes_and_what_the_server_tells_are_counted() -> None:
    run = make_run(
        result(0, [(10, 5)], server=server_side(4, 3, prompt_len=8, num_cached_tokens=4)),
        result(0, [(10, 5)], server=server_side(6, 1, prompt_len=8)),
        result(0, outcome=Outcome.REFUSED, ended_ms=1),
        result(0, outcome=Outcome.FAILED, ended_ms=1),
        dry_ms=10,
        ended_ms=10,
    )
    figures = figures_of(run, run.whole(), CellPeaks(12, 2, 64, 0))
    assert (figures.num_done, figures.num_refused, figures.num_failed) == (2, 1, 1)
    assert figures.queue_ms is not None and figures.queue_ms.p50 == 5
    assert (figures.acceptance_rate, figures.mean_emitted_len) == (0.5, 3)
    assert (figures.cached_share, figures.peak_pages, figures.num_pages) == (0.25, 12, 64)


def test_without_drafts_there_is_no_acceptance() -> None:
    run = make_run(result(0, [(10, 1)]), dry_ms=10, ended_ms=10)
    figures = figures_of(run, run.whole(), None)
    assert figures.acceptance_rate is None
    assert figures.queue_ms is None
    assert figures.peak_pages is None


def test_repeats_give_medians_of_values_and_sums_of_counts() -> None:
    run = make_run(result(0, [(10, 1), (20, 1)]), dry_ms=20, ended_ms=20)
    once = figures_of(run, run.whole(), CellPeaks(3, 1, 64, 0))
    repeats = [replace(once, tok_s=speed, acceptance_rate=None) for speed in (1.0, 5.0, 3.0)]
    repeats[1] = replace(repeats[1], peak_pages=9, is_steady=True)
    total = median_figures(repeats)
    assert (total.tok_s, total.num_done, total.peak_pages) == (3, 3, 9)
    assert total.acceptance_rate is None
    assert not total.is_steady


def test_the_median_of_spreads_leaves_out_those_that_are_not_there() -> None:
    assert median_spread([None, Spread(1, 2, 3, 4), Spread(3, 4, 5, 6)]) == Spread(2, 3, 4, 10)
    assert median_spread([None]) is None


def test_pages_are_idle_when_only_the_prefix_cache_holds_some() -> None:
    assert PoolPages(10, 6, 0, 0, 4).is_idle
    assert not PoolPages(10, 9, 1, 0, 0).is_idle
    assert not PoolPages(10, 9, 0, 1, 0).is_idle
