"""The plan of a local stack: which processes it has, with which environment. Pure.

Knows nothing of processes or sockets; paths are made from the runtime folder it is given. What the
user's own environment says is passed on, what the configuration says wins over it.

    RUNTIME/redis.sock              unless a URL is given
    RUNTIME/cell-I/draft.sock       split cells only
    RUNTIME/cell-I/verify.sock
    RUNTIME/gateway.sock            unless the gateway listens elsewhere
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from shared.speculation.draft_vocab import AUTO
from shared.speculation.vocabulary import OFF
from shortstack.access import VARIABLES, Access
from shortstack.children import ChildPlan

PREFIX = "SHORTSTACK_"
# Read by the command line alone; services refuse names that they do not know.
CLIENT_VARIABLES = frozenset({"SHORTSTACK_TARGET"}) | VARIABLES
# Idle OpenMP threads of one worker must not spin while the other works, but waking them for every
# product is dear: they spin for some tens of microseconds, the gap between two products, and sleep
# then. Plain decoding of a 9M model took 4.2 ms a token so, 5.6 ms with passive threads.
SPIN_COUNT = 10_000
NO_REDIS = "none"


class CellKind(StrEnum):
    """How a cell is built."""

    SPLIT = "split"
    FUSED = "fused"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class CellDefaults:
    """Speculation defaults of the cells; None leaves the choice to the worker.

    Who names a setting and no policy wants that setting: `static`.
    """

    method: str | None = None
    exit_layer: int | None = None
    draft_len: int | None = None
    stop_threshold: float | None = None
    policy: str = ""

    @property
    def policy_wished(self) -> str | None:
        """What decides the rounds of requests that do not say; None: as the worker has it."""
        setting = (self.exit_layer, self.draft_len, self.stop_threshold)
        is_named = any(each is not None for each in setting)
        return self.policy or ("static" if is_named else None)


@dataclass(frozen=True, slots=True)
class StackConfig:
    """A local stack. An empty `listen` is a socket in the runtime folder, an empty `http` no HTTP.

    `redis_url`: empty starts a server of the stack's own, `none` goes without one.
    `trace` is where each cell leaves a trace of its last steps at its end; with several cells the
    name gets the cell's.
    `metrics_port` is the first of the ports that metrics are served on, see `metrics_address`; 0:
    nobody serves any.
    `draft_link` is the socket, by its name in a cell's folder, at which its verify worker calls the
    draft worker where somebody stands between the two; empty: the draft worker's own.
    `access` is how the stack itself calls its gateway, where that has API keys or TLS.
    `otlp` is where traces of requests go, `host:port` of an OTLP endpoint; empty: nowhere, unless
    the environment says so. `sampling_ratio` is the share of requests traced.
    `environ` adds any SHORTSTACK_ variable that has no field here.
    """

    model: Path
    model_name: str = ""
    num_cells: int = 1
    cell_kind: CellKind = CellKind.SPLIT
    listen: str = ""
    http: str = ""
    redis_url: str = ""
    dtype: str | None = None
    device: str | None = None
    num_threads: int | None = None
    draft_vocab: str | None = None
    exit_adapters: str | None = None
    draft_adapters: str | None = None
    acceptance_heads: str | None = None
    log_level: str | None = None
    defaults: CellDefaults = field(default_factory=CellDefaults)
    spin_count: int = SPIN_COUNT
    trace: Path | None = None
    otlp: str = ""
    sampling_ratio: float | None = None
    log_dir: Path | None = None
    metrics_port: int = 0
    draft_link: str = ""
    access: Access = field(default_factory=Access)
    environ: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class CellPlan:
    """One cell: where its workers listen, and their processes."""

    cell_id: str
    verify_target: str
    verify: ChildPlan
    draft_target: str = ""
    draft: ChildPlan | None = None


def base_environment(config: StackConfig, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what all processes of the stack share."""
    own = {name: value for name, value in inherited.items() if name not in CLIENT_VARIABLES}
    options = {
        "MODEL__PATH": config.model.resolve(),
        "MODEL__NAME": config.model_name or None,
        "MODEL__DTYPE": config.dtype,
        "MODEL__DEVICE": config.device,
        "MODEL__NUM_THREADS": config.num_threads,
        "MODEL__DRAFT_VOCAB": _absolute_unless_word(config.draft_vocab),
        "MODEL__EXIT_ADAPTERS": _absolute_unless_word(config.exit_adapters),
        "MODEL__DRAFT_ADAPTERS": _absolute_unless_word(config.draft_adapters),
        "MODEL__ACCEPTANCE_HEADS": _absolute_unless_word(config.acceptance_heads),
        "LOG__LEVEL": config.log_level,
        "TELEMETRY__ENDPOINT": config.otlp or None,
        "TELEMETRY__SAMPLING_RATIO": config.sampling_ratio,
    }
    # So that a traceback at start reaches the log before the process is gone.
    return own | {"PYTHONUNBUFFERED": "1"} | dict(config.environ) | _variables(options)


def _absolute_unless_word(wish: str | None) -> str | None:
    """Make a path hold in any folder; `auto` and `off` are none."""
    is_word = wish in (None, AUTO, OFF)
    return wish if is_word else str(Path(str(wish)).resolve())


def _variables(options: Mapping[str, object]) -> dict[str, str]:
    """Name the options that are set as variables."""
    return {PREFIX + name: str(value) for name, value in options.items() if value is not None}


def plan_cell(
    index: int, config: StackConfig, base: Mapping[str, str], runtime_dir: Path
) -> CellPlan:
    """Plan the workers of one cell; on a registry shared with others its id must be unique."""
    cell_id = f"{runtime_dir.name}-{index}" if config.redis_url else f"cell-{index}"
    folder = runtime_dir / f"cell-{index}"
    verify_target = f"unix:{folder}/verify.sock"
    draft_target = f"unix:{folder}/draft.sock" if config.cell_kind is CellKind.SPLIT else ""
    worker_base = dict(base) | openmp_environment(config.spin_count)
    verify_options = {
        "VERIFY__LISTEN": verify_target,
        "VERIFY__RUNTIME_DIR": folder,
        "VERIFY__CELL_ID": cell_id,
        "VERIFY__CELL_KIND": config.cell_kind.value,
        "VERIFY__DRAFT_TARGET": _called_by_verify(draft_target, config, folder),
        "VERIFY__METHOD": config.defaults.method,
        "VERIFY__EXIT_LAYER": config.defaults.exit_layer,
        "VERIFY__DRAFT_LEN": config.defaults.draft_len,
        "VERIFY__STOP_THRESHOLD": config.defaults.stop_threshold,
        "VERIFY__POLICY": config.defaults.policy_wished,
        "VERIFY__TRACE_PATH": _trace_path(config, cell_id),
        "VERIFY__METRICS_LISTEN": metrics_address(config, 1 + 2 * index),
    }
    draft_options = {
        "DRAFT__LISTEN": draft_target,
        "DRAFT__RUNTIME_DIR": folder,
        "DRAFT__EXIT_LAYER": config.defaults.exit_layer,
        "DRAFT__METRICS_LISTEN": metrics_address(config, 2 + 2 * index),
    }
    return CellPlan(
        cell_id=cell_id,
        verify_target=verify_target,
        verify=_service("verify", f"verify-{index}", worker_base | _variables(verify_options)),
        draft_target=draft_target,
        draft=_service("draft", f"draft-{index}", worker_base | _variables(draft_options))
        if draft_target
        else None,
    )


def _called_by_verify(draft_target: str, config: StackConfig, folder: Path) -> str | None:
    if draft_target and config.draft_link:
        return f"unix:{folder}/{config.draft_link}"
    return draft_target or None


def _trace_path(config: StackConfig, cell_id: str) -> Path | None:
    if config.trace is None or config.num_cells == 1:
        return config.trace
    return config.trace.with_stem(f"{config.trace.stem}-{cell_id}")


def openmp_environment(spin_count: int) -> dict[str, str]:
    """Return how idle OpenMP threads wait: `spin_count` turns (libgomp's), then they sleep."""
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(spin_count)}


def plan_gateway(
    config: StackConfig, base: Mapping[str, str], runtime_dir: Path, cells: list[CellPlan]
) -> ChildPlan:
    """Plan the gateway; without a registry it is told the cells."""
    targets = ",".join(cell.verify_target for cell in cells)
    has_registry = PREFIX + "REDIS__URL" in base
    options = {
        "GATEWAY__LISTEN": gateway_target(config, runtime_dir),
        "GATEWAY__HTTP_LISTEN": config.http,
        "GATEWAY__CELLS": None if has_registry else targets,
        "GATEWAY__METRICS_LISTEN": metrics_address(config, 0),
    }
    return _service("gateway", "gateway", dict(base) | _variables(options))


def metrics_address(config: StackConfig, place: int) -> str | None:
    """Return where a process serves its metrics: the gateway, verify-0, draft-0, verify-1, ..."""
    return f"127.0.0.1:{config.metrics_port + place}" if config.metrics_port else None


def gateway_target(config: StackConfig, runtime_dir: Path) -> str:
    """Return where the gateway is told to listen."""
    return config.listen or f"unix:{runtime_dir}/gateway.sock"


def _service(module: str, name: str, env: dict[str, str]) -> ChildPlan:
    return ChildPlan(name, (sys.executable, "-m", f"services.{module}.main"), env)
