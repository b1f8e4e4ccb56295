"""A trace as text: gathered until it is whole, drawn as a tree."""

from shared.telemetry import spans
from shared.telemetry.spans import Value
from shortstack.traces.gathering import MAX_TRACES, QUIET_S, Gathering, Trace
from shortstack.traces.receiver import ReceivedSpan
from shortstack.traces.view import NUM_FIRST, NUM_LAST, lines_of


def span(
    name: str,
    span_id: str,
    parent_id: str = "",
    times_ms: tuple[int, int] = (0, 100),
    trace_id: str = "t",
    attributes: dict[str, Value] | None = None,
    error: str = "",
) -> ReceivedSpan:
    """Return a span as it is received."""
    start_ns, end_ns = (each * 1_000_000 for each in times_ms)
    values = attributes or {}
    return ReceivedSpan(
        "s", name, "INTERNAL", trace_id, span_id, parent_id, start_ns, end_ns, values, (), error
    )


def round_span(index: int, draft_len: int = 4) -> ReceivedSpan:
    """Return a round of session `d`."""
    attributes: dict[str, Value] = {
        spans.ROUND_INDEX: index,
        spans.EXIT_LAYER: 2,
        spans.MAX_DRAFT_LEN: 4 if draft_len else 0,
        spans.DRAFT_LEN: draft_len,
        spans.ROUND_ACCEPTED: min(3, draft_len),
        spans.SOURCE: "recovered" if draft_len else "plain",
    }
    return span("round", f"r{index}", "d", (10 + index, 11 + index), attributes=attributes)


def test_a_trace_is_whole_once_its_root_is_there_and_nothing_comes() -> None:
    gathering = Gathering({"GenerateText"})
    gathering.take([span("round", "r", "d")], 0.0)
    assert not gathering.pop_whole(QUIET_S)
    gathering.take([span("GenerateText", "g", "client")], 5.0)
    assert not gathering.pop_whole(5.0)
    (trace,) = gathering.pop_whole(5.0 + QUIET_S)
    assert len(trace.spans) == 2
    assert not gathering.pop_whole(100.0)


def test_traces_that_never_get_whole_are_forgotten() -> None:
    gathering = Gathering({"GenerateText"})
    for index in range(3 * MAX_TRACES):
        gathering.take([span("pass", "p", trace_id=f"t{index}")], 0.0)
    gathering.take([span("GenerateText", "g", trace_id="t0")], 1.0)
    (trace,) = gathering.pop_whole(10.0)
    assert [each.name for each in trace.spans] == ["GenerateText"]


def test_a_tree_is_drawn_with_a_line_for_each_round() -> None:
    trace = Trace(
        "t",
        [
            span("commit", "c", "r1", (12, 13)),
            round_span(1),
            span("verify", "v", "r1", (11, 12)),
            round_span(2, draft_len=0),
            span("decode", "d", "g", (10, 90)),
            span("GenerateText", "g", "client", error="boom"),
        ],
    )
    lines = list(lines_of(trace))
    assert lines[0] == "trace t"
    assert [line.split("  ")[0] for line in lines[1:3]] == ["GenerateText", ""]
    assert "FAILED: boom" in lines[1]
    assert "round 1: E 2 d 4" in lines[3]
    assert "3/4 kept, recovered: verify 1.00 + commit 1.00" in lines[3]
    assert "round 2: plain" in lines[4]
    bars = [line[line.index("|") : line.rindex("|")] for line in lines[1:]]
    assert len(set(map(len, bars))) == 1


def test_the_middle_of_a_long_session_is_left_out() -> None:
    rounds = [round_span(index) for index in range(1, 41)]
    lines = list(lines_of(Trace("t", [*rounds, span("decode", "d")])))
    assert len(lines) == 2 + NUM_FIRST + 1 + NUM_LAST
    assert lines[2 + NUM_FIRST].strip() == f"... {40 - NUM_FIRST - NUM_LAST} more"
    assert "round 40" in lines[-1]


def test_children_outside_their_root_stay_inside_the_picture() -> None:
    late = span("draft", "x", "g", (90, 900))
    early = span("queue", "q", "g", (-50, -10))
    lines = list(lines_of(Trace("t", [span("GenerateText", "g"), late, early])))
    assert len({len(line.rstrip()) for line in lines[1:]}) == 1
