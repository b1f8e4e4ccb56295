"""The signal board: where a service's rows of the table find their values when they are scraped.

Counting is done elsewhere, in plain numbers of whichever thread owns them; a source is a function
that reads them, called by the scrape's thread. So nothing on the decode path knows of Prometheus.

    board = SignalBoard(Service.DRAFT, {"model_name": "tiny"})
    board.add("shortstack_draft_", {"rounds_total": lambda: engine.num_rounds, ...})
    metrics_server.show(board)
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from shared.telemetry.distribution import Distribution
from shared.telemetry.signals.row import Kind, Service, Signal
from shared.telemetry.signals.table import own_signals_of

# Keys are the values of those labels that are no constants of the service, in the table's order;
# one alone stands for itself.
Values = (
    float
    | Distribution
    | Mapping[str, float]
    | Mapping[str, Distribution]
    | Mapping[tuple[str, str], float]
    | Mapping[tuple[str, ...], float]
    | Mapping[tuple[str, ...], Distribution]
)
Source = Callable[[], Values]


class SignalBoard(Collector):
    """The rows of one service, each with a source; a `Collector` of prometheus-client."""

    def __init__(self, service: Service, constants: Mapping[str, str]) -> None:
        """Begin with the build; `constants` are labels whose values never change."""
        self._service = service
        build = {"service": service.value, "version": version("shortstack-serve")}
        self._constants = {**build, **constants}
        self._signals = {signal.name: signal for signal in own_signals_of(service)}
        self._sources: dict[str, Source] = {"shortstack_build_info": lambda: 1.0}

    def add(self, prefix: str, sources: Mapping[str, Source]) -> None:
        """Say where rows find their values, by their names behind a prefix.

        A row without labels of its own reads a number or a distribution, any other a mapping from
        its labels' values.

        Raises:
            ValueError: the table has no such row for this service, or it has a source already.
        """
        for rest, read in sources.items():
            name = prefix + rest
            if name not in self._signals:
                raise ValueError(f"the table has no signal {name!r} of the {self._service} service")
            if name in self._sources:
                raise ValueError(f"signal {name!r} has a source already")
            self._sources[name] = read

    def checked(self) -> "SignalBoard":
        """Return the board once every row has a source.

        Raises:
            ValueError: names the rows without.
        """
        missing = [name for name in self._signals if name not in self._sources]
        if missing:
            raise ValueError(f"signals without a source: {', '.join(missing)}")
        return self

    def describe(self) -> Iterator[Metric]:
        """Iterate over the rows without values: a registry refuses names that it has."""
        return (_family(signal) for signal in self._signals.values())

    def collect(self) -> Iterator[Metric]:
        """Read every row; called by the scrape's thread."""
        for name, signal in self._signals.items():
            yield self._read(signal, self._sources[name]())

    def _read(self, signal: Signal, values: Values) -> Metric:
        family = _family(signal)
        by_key = values if isinstance(values, Mapping) else {(): values}
        for key, value in by_key.items():
            labels = self._label_values(signal, (key,) if isinstance(key, str) else key)
            if isinstance(value, Distribution):
                assert isinstance(family, HistogramMetricFamily), f"{signal.name} is no histogram"
                family.add_metric(labels, value.buckets(), value.total)
            else:
                assert isinstance(family, (CounterMetricFamily, GaugeMetricFamily))
                family.add_metric(labels, value)
        return family

    def _label_values(self, signal: Signal, key: tuple[str, ...]) -> list[str]:
        own = iter(key)
        constants = self._constants
        values = [constants[each] if each in constants else next(own) for each in signal.labels]
        assert next(own, None) is None, f"{signal.name} has fewer labels than {key}"
        return values


def _family(signal: Signal) -> Metric:
    match signal.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(signal.name, signal.help, labels=signal.labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(signal.name, signal.help, labels=signal.labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(signal.name, signal.help, labels=signal.labels)
