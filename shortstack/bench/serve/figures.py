"""Figures of one sender under one load: throughput, percentiles, counts. Pure.

throughput   tokens that arrived in the window / its length
TTFT, e2e    of the requests sent in the window, their own ends wherever they lie
TBT          of the messages in the window: once as it is (a round brings several tokens at a
             time), once shared out among the message's tokens
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from shared.speculation.vocabulary import SpeculationSummary
from shortstack.bench.serve.pages import CellPeaks
from shortstack.bench.serve.result import Outcome, Result, with_outcome
from shortstack.bench.serve.window import LoadRun, Window


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of `num` values, milliseconds."""

    p50: float
    p95: float
    p99: float
    num: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a load came to; absent values were not to be had.

    cached_share: share of the prompts' tokens that the server did not compute anew.
    """

    tok_s: float
    requests_s: float
    ttft_ms: Spread | None
    tbt_ms: Spread | None
    tbt_token_ms: Spread | None
    e2e_ms: Spread | None
    queue_ms: Spread | None
    num_tokens: int
    num_done: int
    num_refused: int
    num_failed: int
    num_refusals: int
    num_preemptions: int
    window_s: float
    is_steady: bool
    acceptance_rate: float | None = None
    mean_emitted_len: float | None = None
    drafted_share: float | None = None
    cached_share: float | None = None
    peak_pages: int | None = None
    num_pages: int | None = None


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ascending values, between two of them by their distance."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread_of(values_ns: Iterable[float]) -> Spread | None:
    """Return the percentiles of nanoseconds as milliseconds; None where there are none."""
    ordered = sorted(value / 1e6 for value in values_ns)
    if not ordered:
        return None
    p50, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.95, 0.99))
    return Spread(p50, p95, p99, len(ordered))


def figures_of(run: LoadRun, window: Window, peaks: CellPeaks | None) -> Figures:
    """Sum a run up."""
    results = run.results
    done = with_outcome(results, Outcome.DONE)
    sent = [result for result in done if not window.is_steady or window.holds(result.sent_ns)]
    gaps = [gap for each in results for gap in each.gaps_ns(window.start_ns, window.end_ns)]
    num_tokens = sum(each.num_tokens_in(window.start_ns, window.end_ns) for each in results)
    num_ended = sum(window.holds(result.ended_ns) for result in done)
    did = speculation_of(done)
    num_rounds = did.num_drafts + did.num_plain_rounds
    servers = [result.server for result in done if result.server is not None]
    return Figures(
        tok_s=num_tokens / window.length_s,
        requests_s=num_ended / window.length_s,
        ttft_ms=spread_of(each.ttft_ns for each in sent if each.ttft_ns is not None),
        tbt_ms=spread_of(ns for ns, _ in gaps),
        tbt_token_ms=spread_of(ns / num for ns, num in gaps for _ in range(num)),
        e2e_ms=spread_of(each.ended_ns - each.sent_ns for each in sent),
        queue_ms=spread_of(each.server.queue_ns for each in sent if each.server is not None),
        num_tokens=sum(len(result.token_ids) for result in results),
        num_done=len(done),
        num_refused=len(with_outcome(results, Outcome.REFUSED)),
        num_failed=len(with_outcome(results, Outcome.FAILED)),
        num_refusals=sum(result.num_refusals for result in results),
        num_preemptions=sum(server.num_preemptions for server in servers),
        window_s=window.length_s,
        is_steady=window.is_steady,
        acceptance_rate=did.acceptance_rate if did.num_drafts else None,
        mean_emitted_len=did.mean_emitted_len if did.num_drafts else None,
        drafted_share=did.num_drafts / num_rounds if num_rounds else None,
        cached_share=_cached_share(done),
        peak_pages=peaks.num_used if peaks else None,
        num_pages=peaks.num_pages if peaks else None,
    )


def speculation_of(results: Iterable[Result]) -> SpeculationSummary:
    """Add up what speculation did."""
    total = SpeculationSummary()
    for result in results:
        if result.server is not None:
            total.add(result.server.speculation)
    return total


def _cached_share(results: Iterable[Result]) -> float | None:
    servers = [result.server for result in results if result.server is not None]
    num_prompt_tokens = sum(server.prompt_len for server in servers)
    if not num_prompt_tokens:
        return None
    return sum(server.num_cached_tokens for server in servers) / num_prompt_tokens


def median_figures(repeats: Sequence[Figures]) -> Figures:
    """Return the median of every value over repeats; counts are added up."""

    def middle(value: Callable[[Figures], float | None]) -> float | None:
        there = [found for each in repeats if (found := value(each)) is not None]
        return median(there) if there else None

    def sure(value: Callable[[Figures], float]) -> float:
        return median(map(value, repeats))

    def total(value: Callable[[Figures], int]) -> int:
        return sum(map(value, repeats))

    peaks = [each.peak_pages for each in repeats if each.peak_pages is not None]
    return Figures(
        tok_s=sure(lambda each: each.tok_s),
        requests_s=sure(lambda each: each.requests_s),
        ttft_ms=median_spread([each.ttft_ms for each in repeats]),
        tbt_ms=median_spread([each.tbt_ms for each in repeats]),
        tbt_token_ms=median_spread([each.tbt_token_ms for each in repeats]),
        e2e_ms=median_spread([each.e2e_ms for each in repeats]),
        queue_ms=median_spread([each.queue_ms for each in repeats]),
        num_tokens=total(lambda each: each.num_tokens),
        num_done=total(lambda each: each.num_done),
        num_refused=total(lambda each: each.num_refused),
        num_failed=total(lambda each: each.num_failed),
        num_refusals=total(lambda each: each.num_refusals),
        num_preemptions=total(lambda each: each.num_preemptions),
        window_s=sure(lambda each: each.window_s),
        is_steady=all(each.is_steady for each in repeats),
        acceptance_rate=middle(lambda each: each.acceptance_rate),
        mean_emitted_len=middle(lambda each: each.mean_emitted_len),
        drafted_share=middle(lambda each: each.drafted_share),
        cached_share=middle(lambda each: each.cached_share),
        peak_pages=max(peaks, default=None),
        num_pages=repeats[0].num_pages,
    )


def median_spread(spreads: Sequence[Spread | None]) -> Spread | None:
    """Return the median of each percentile; None where no repeat has any."""
    there = [spread for spread in spreads if spread is not None]
    if not there:
        return None
    p50, p95, p99 = (
        median(getattr(spread, name) for spread in there) for name in ("p50", "p95", "p99")
    )
    return Spread(p50, p95, p99, sum(spread.num for spread in there))
