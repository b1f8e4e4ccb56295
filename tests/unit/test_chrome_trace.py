"""The trace file: JSON of the Trace Event Format, with named lanes, and bounded."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.telemetry.chrome_trace import ChromeTrace


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the file's events; NaN and the like are no JSON."""
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert set(content) == {"traceEvents", "displayTimeUnit"}
    assert content["displayTimeUnit"] in ("ms", "ns"), "the format knows no other"
    events: list[dict[str, Any]] = content["traceEvents"]
    return events


def spans_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == "X"]


def names_of(events: list[dict[str, Any]], kind: str) -> dict[int, str]:
    """Return what is named, by lane."""
    return {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == kind}


def test_spans_lie_on_named_lanes_in_microseconds(tmp_path: Path) -> None:
    trace = ChromeTrace(tmp_path / "trace.json", "cell-1")
    trace.span("verify worker", "pass", 5_000, 9_500, {"sessions": 3, "policy": "static"})
    trace.span("draft worker", "draft", 1_000, 5_000)
    trace.span("verify worker", "commit", 9_500, 9_750)
    path = trace.write()
    assert path == tmp_path / "trace.json"
    events = read_events(path)
    lanes = names_of(events, "thread_name")
    assert sorted(lanes.values()) == ["draft worker", "verify worker"]
    assert list(names_of(events, "process_name").values()) == ["cell-1"]
    found = [
        (lanes[each["tid"]], each["name"], each["ts"], each["dur"], each["args"])
        for each in spans_of(events)
    ]
    assert found == [
        ("verify worker", "pass", 5.0, 4.5, {"sessions": 3, "policy": "static"}),
        ("draft worker", "draft", 1.0, 4.0, {}),
        ("verify worker", "commit", 9.5, 0.25, {}),
    ]
    assert {event["pid"] for event in events} == {0}


def test_only_the_newest_spans_are_kept(tmp_path: Path) -> None:
    trace = ChromeTrace(tmp_path / "trace.json", "cell-1", max_spans=3)
    for index in range(10):
        trace.span(f"lane {index}", f"span {index}", index, index + 1)
    events = read_events(trace.write())
    assert [each["name"] for each in spans_of(events)] == ["span 7", "span 8", "span 9"]
    lanes = names_of(events, "thread_name")
    assert sorted(lanes.values()) == ["lane 7", "lane 8", "lane 9"], "lanes without spans go too"


def test_a_trace_may_be_written_more_than_once_and_empty(tmp_path: Path) -> None:
    trace = ChromeTrace(tmp_path / "trace.json", "Zelle „1“")
    assert spans_of(read_events(trace.write())) == []
    trace.span("lane", "first", 0, 10)
    assert len(spans_of(read_events(trace.write()))) == 1
    trace.span("lane", "second", 10, 20)
    events = read_events(trace.write())
    assert [each["name"] for each in spans_of(events)] == ["first", "second"]
    assert list(names_of(events, "process_name").values()) == ["Zelle „1“"]


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    trace = ChromeTrace(tmp_path / "missing" / "trace.json", "cell-1")
    trace.span("lane", "span", 0, 10)
    with pytest.raises(FileNotFoundError):
        trace.write()
