"""The table of signals: names that Prometheus takes, and promises that all rows keep."""

import re
from itertools import pairwise

import pytest

from shared.telemetry.signals.row import Kind, Service, Signal
from shared.telemetry.signals.table import CHAPTERS, OWN_SIGNALS, SIGNALS, own_signals_of

ROWS = [pytest.param(signal, id=signal.name) for signal in SIGNALS]


@pytest.mark.parametrize("signal", ROWS)
def test_a_row_is_well_formed(signal: Signal) -> None:
    assert re.fullmatch(r"(vllm:|shortstack_|gen_ai_|process_)[a-z0-9_]+", signal.name)
    assert signal.name.endswith("_total") == (signal.kind is Kind.COUNTER)
    assert bool(signal.bounds) == (signal.kind is Kind.HISTOGRAM)
    assert all(low < high for low, high in pairwise(signal.bounds))
    assert signal.help.endswith(".") or signal.name == "shortstack_build_info"
    assert signal.unit and signal.services
    assert len(set(signal.labels)) == len(signal.labels)


@pytest.mark.parametrize("signal", ROWS)
def test_no_label_holds_an_id(signal: Signal) -> None:
    assert not [label for label in signal.labels if re.search("(^|_)id$|session|tenant", label)]


def test_every_name_stands_once() -> None:
    names = [signal.name for signal in SIGNALS]
    assert len(set(names)) == len(names)
    assert sum(map(len, CHAPTERS.values())) == len(OWN_SIGNALS)


def test_one_service_alone_emits_what_dashboards_of_vllm_add_up() -> None:
    for signal in SIGNALS:
        if signal.name.startswith("vllm:"):
            assert signal.services == (Service.VERIFY,)
            assert signal.labels[:2] == ("model_name", "engine")


@pytest.mark.parametrize("service", list(Service))
def test_every_service_has_rows_of_its_own(service: Service) -> None:
    assert [signal for signal in own_signals_of(service) if signal.services == (service,)]
