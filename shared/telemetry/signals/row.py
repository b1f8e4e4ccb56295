"""A row of the table of signals: what a metric is called, what it counts, who emits it."""

from dataclasses import dataclass
from enum import StrEnum


class Service(StrEnum):
    """Who emits a signal; the names that services log under."""

    GATEWAY = "gateway"
    VERIFY = "verify"
    DRAFT = "draft"


class Kind(StrEnum):
    """How a signal's values behave."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


ALL_SERVICES = (Service.GATEWAY, Service.VERIFY, Service.DRAFT)

# A pass of a small model on a CPU takes some milliseconds, and so does one of a big model on a GPU.
STEP_BOUNDS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075,
    0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
# From a draft step's overhead on.
FINE_BOUNDS_S = (0.0001, 0.0002, 0.0003, *STEP_BOUNDS_S)
# Doubling, as the conventions for generative AI have it, from below what they begin with.
REQUEST_BOUNDS_S = (
    0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48,
    40.96, 81.92, 163.84, 327.68,
)  # fmt: skip
LEN_BOUNDS = tuple(float(2**power) for power in range(18))
COUNT_BOUNDS = (
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0, 512.0,
    1024.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric.

    name: as scraped; of a histogram without `_bucket`, `_sum` and `_count`.
    labels: in order; ids of requests, sessions, workers or tenants are none of them.
    bounds: upper bounds of a histogram's buckets, ascending; +Inf comes by itself.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    services: tuple[Service, ...]
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
