"""The board: every row has one source, and scrapes show what it reads."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shared.telemetry.distribution import Distribution
from shared.telemetry.signal_board import SignalBoard
from shared.telemetry.signals.row import Kind, Service
from shared.telemetry.signals.table import own_signals_of

CONSTANTS = {"model_name": "tiny", "engine": "cell-0", "cell": "cell-0"}
BUILT_IN = {"service", "version"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def filled_board(service: Service) -> SignalBoard:
    """Return a board every row of which reads 2, under labels that say their own names."""
    board = SignalBoard(service, CONSTANTS)
    distribution = Distribution((1.0, 4.0))
    distribution.observe(2.0, trace_id=TRACE_ID)
    for signal in own_signals_of(service):
        if signal.name == "shortstack_build_info":
            continue
        value = distribution if signal.kind is Kind.HISTOGRAM else 2.0
        key = tuple(label for label in signal.labels if label not in CONSTANTS.keys() | BUILT_IN)
        board.add("", {signal.name: lambda key=key, value=value: {key: value} if key else value})
    return board


@pytest.fixture(params=list(Service))
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    yield request.param


def test_both_formats_show_every_row_with_its_labels(service: Service) -> None:
    registry = CollectorRegistry()
    registry.register(filled_board(service).checked())
    texts = generate_latest(registry).decode(), openmetrics.generate_latest(registry).decode()
    for families in (parse_text(texts[0]), parse_openmetrics(texts[1])):
        samples = {sample.name: sample for family in families for sample in family.samples}
        for signal in own_signals_of(service):
            is_histogram = signal.kind is Kind.HISTOGRAM
            sample = samples[f"{signal.name}_sum" if is_histogram else signal.name]
            assert set(sample.labels) == set(signal.labels)
            if signal.name != "shortstack_build_info":
                assert sample.value == 2.0
            assert {CONSTANTS[name] for name in signal.labels if name in CONSTANTS} <= set(
                sample.labels.values()
            )


def test_exemplars_come_with_openmetrics_alone() -> None:
    registry = CollectorRegistry()
    registry.register(filled_board(Service.GATEWAY).checked())
    assert TRACE_ID not in generate_latest(registry).decode()
    assert TRACE_ID in openmetrics.generate_latest(registry).decode()


def test_the_build_is_told_by_itself() -> None:
    registry = CollectorRegistry()
    registry.register(filled_board(Service.DRAFT).checked())
    labels = {"service": "draft", "model_name": "tiny", "version": "0.1.0"}
    assert registry.get_sample_value("shortstack_build_info", labels) == 1.0


def test_a_row_without_a_source_is_named() -> None:
    with pytest.raises(ValueError, match="shortstack_draft_rounds_total, "):
        SignalBoard(Service.DRAFT, {}).checked()


def test_a_source_without_a_row_is_refused() -> None:
    board = SignalBoard(Service.DRAFT, {})
    with pytest.raises(ValueError, match=r"no signal 'shortstack_sessions' of the draft service"):
        board.add("shortstack_", {"sessions": lambda: 1.0})


def test_a_row_has_one_source() -> None:
    board = SignalBoard(Service.DRAFT, {})
    board.add("shortstack_draft_", {"rounds_total": lambda: 1.0})
    with pytest.raises(ValueError, match="has a source already"):
        board.add("shortstack_", {"draft_rounds_total": lambda: 2.0})


def test_two_boards_of_a_service_do_not_share_a_registry() -> None:
    registry = CollectorRegistry()
    registry.register(filled_board(Service.DRAFT))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(filled_board(Service.DRAFT))
