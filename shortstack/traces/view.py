"""One trace as lines of text: a tree, a bar for when each span was, a line for each round."""

from collections.abc import Iterator

from shared.telemetry import spans
from shortstack.traces.gathering import Trace
from shortstack.traces.receiver import ReceivedSpan

BAR_LEN = 32
NAME_LEN = 34
# Rounds shown of a longer session: the first ones and the last.
NUM_FIRST, NUM_LAST = 12, 4


def lines_of(trace: Trace) -> Iterator[str]:
    """Iterate over the lines of a trace."""
    yield f"trace {trace.trace_id}"
    for root in sorted(trace.roots, key=lambda span: span.start_ns):
        yield from _subtree(trace, root, root, "")


def _subtree(trace: Trace, span: ReceivedSpan, root: ReceivedSpan, indent: str) -> Iterator[str]:
    if span.name == spans.ROUND.name:
        yield _line(indent, _round_name(span), span, root, _parts(trace, span))
        return
    yield _line(indent, span.name, span, root, _note(span))
    children = trace.children(span)
    num_left_out = len(children) - NUM_FIRST - NUM_LAST
    for index, child in enumerate(children):
        if num_left_out > 0 and index == NUM_FIRST:
            yield f"{indent}  ... {num_left_out} more"
        if num_left_out <= 0 or not NUM_FIRST <= index < NUM_FIRST + num_left_out:
            yield from _subtree(trace, child, root, indent + "  ")


def _line(indent: str, name: str, span: ReceivedSpan, root: ReceivedSpan, note: str) -> str:
    title = f"{indent}{name}"[:NAME_LEN]
    failed = f"  FAILED: {span.error}" if span.error else ""
    line = f"{title:<{NAME_LEN}} {span.duration_ms:>9.2f} ms  {_bar(span, root)}  {note}{failed}"
    return line.rstrip()


def _bar(span: ReceivedSpan, root: ReceivedSpan) -> str:
    """Draw when a span was within the root's time; what is outside is cut off."""
    length_ns = max(1, root.end_ns - root.start_ns)
    first = _clamp((span.start_ns - root.start_ns) * BAR_LEN // length_ns, BAR_LEN - 1)
    last = _clamp((span.end_ns - root.start_ns) * BAR_LEN // length_ns, BAR_LEN - 1)
    return f"|{' ' * first}{'=' * (last - first + 1)}{' ' * (BAR_LEN - 1 - last)}|"


def _clamp(value: int, highest: int) -> int:
    return min(max(value, 0), highest)


def _round_name(span: ReceivedSpan) -> str:
    values = span.attributes
    index = values.get(spans.ROUND_INDEX)
    if not values.get(spans.MAX_DRAFT_LEN):
        return f"round {index}: plain"
    return f"round {index}: E {values.get(spans.EXIT_LAYER)} d {values.get(spans.MAX_DRAFT_LEN)}"


def _parts(trace: Trace, span: ReceivedSpan) -> str:
    """Say what a round did, and where its time went."""
    values = span.attributes
    kept = f"{values.get(spans.ROUND_ACCEPTED)}/{values.get(spans.DRAFT_LEN)} kept, "
    is_plain = not values.get(spans.DRAFT_LEN)
    parts = " + ".join(f"{each.name} {each.duration_ms:.2f}" for each in trace.children(span))
    return f"{'' if is_plain else kept}{values.get(spans.SOURCE)}: {parts}"


def _note(span: ReceivedSpan) -> str:
    values = span.attributes
    shown = {
        "request": values.get(spans.REQUEST_ID),
        "cell": values.get(spans.CELL_ID),
        "tokens": values.get(spans.OUTPUT_TOKENS),
        "replays": values.get(spans.NUM_REPLAYS) or None,
        "rounds": values.get(spans.NUM_ROUNDS),
        "cached": values.get(spans.NUM_CACHED_TOKENS),
        "error": values.get(spans.ERROR_TYPE),
    }
    return "  ".join(f"{name} {value}" for name, value in shown.items() if value is not None)
