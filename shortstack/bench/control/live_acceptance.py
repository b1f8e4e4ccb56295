"""What is required of `goodput` on a real stack, and whether a live comparison met it. Pure.

These are the rows that a replay cannot answer; those that it can are in `acceptance`.
"""

from collections.abc import Iterator, Mapping, Sequence

from shortstack.bench.control.acceptance import Row
from shortstack.bench.control.contenders import GOODPUT_NAME
from shortstack.bench.control.live_figures import (
    ALL_KINDS,
    PLAIN_AGAIN,
    PLAIN_NAME,
    ArmCheck,
    LiveKind,
)

# Of a setting's mean round, live and replayed.
MAX_TIME_ERROR = 0.05


def judge_live(
    kinds: Sequence[LiveKind],
    checks: Sequence[ArmCheck],
    num_mismatches: int,
    added_ttft_ms: Mapping[str, float],
) -> list[Row]:
    """Return a row per requirement that was measured.

    Args:
        kinds: as `kinds_found` has them.
        checks: every static setting beside its replay.
        num_mismatches: texts that differ from plain decoding's.
        added_ttft_ms: by policy, time to the first token beyond plain decoding's, in the middle.
    """
    rows = [*_of_kinds([kind for kind in kinds if GOODPUT_NAME in kind.over_best])]
    rows.append(Row("live: texts that differ from plain decoding's", 0, num_mismatches, "", True))
    if GOODPUT_NAME in added_ttft_ms:
        what = "live: added time to first token, p50, ms"
        rows.append(Row(what, 1.0, added_ttft_ms[GOODPUT_NAME], "", True))
    return [*rows, *_of_checks(checks)]


def _of_kinds(kinds: Sequence[LiveKind]) -> Iterator[Row]:
    apart = [kind for kind in kinds if kind.kind != ALL_KINDS]
    if apart:
        worst = min(apart, key=lambda kind: kind.over_best[GOODPUT_NAME])
        where = f"{worst.kind}; best there: {worst.best_static}"
        what = "live: goodput / best static setting of a kind, worst kind"
        yield Row(what, 0.98, worst.over_best[GOODPUT_NAME], where)
    for kind in kinds:
        # Where no setting beats plain decoding there is nothing to choose among.
        if kind.kind == ALL_KINDS and kind.best_static != PLAIN_NAME:
            what = "live: goodput / best single static setting, all kinds"
            yield Row(what, 1.05, kind.over_best[GOODPUT_NAME], f"best: {kind.best_static}")
    if kinds and GOODPUT_NAME in kinds[-1].slower_than_plain:
        slower = kinds[-1].slower_than_plain
        where = f"share; of plain decoding itself: {slower.get(PLAIN_AGAIN, 0.0):.3g}"
        what = "live: texts slower than plain by > 2 %"
        yield Row(what, 0.01, slower[GOODPUT_NAME], where, True)


def _of_checks(checks: Sequence[ArmCheck]) -> Iterator[Row]:
    compared = [check for check in checks if check.num_compared]
    if compared:
        num_texts = sum(check.num_compared for check in compared)
        num_differing = sum(check.num_differing for check in compared)
        what = "live: texts whose rounds kept otherwise than their replay"
        yield Row(what, 0, num_differing, f"of {num_texts}", True)
    errors = {
        check.name: abs(check.live_ns / check.predicted_ns - 1.0)
        for check in checks
        if check.predicted_ns
    }
    if errors:
        worst = max(errors, key=lambda name: errors[name])
        what = "live: mean round of a setting, live / replayed, worst error"
        yield Row(what, MAX_TIME_ERROR, errors[worst], worst, True)
