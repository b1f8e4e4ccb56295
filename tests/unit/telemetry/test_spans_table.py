"""The table of spans: consistent in itself, and what docs/tracing.md shows."""

from pathlib import Path

from shared.telemetry.spans import SPANS, tables

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "tracing.md"

GROUPS = {"gen_ai", "rpc", "http", "url", "error", "shortstack"}


def test_the_document_shows_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert tables() in text, "put what `python -m shared.telemetry.spans` prints into it"


def test_names_are_the_conventions_or_ours_and_each_occurs_once_per_span() -> None:
    for spec in SPANS:
        names = [each.name for each in spec.attributes]
        assert len(set(names)) == len(names)
        for name in names:
            assert name.split(".")[0] in GROUPS, name


def test_no_two_spans_have_one_name() -> None:
    assert len({each.name for each in SPANS}) == len(SPANS)
