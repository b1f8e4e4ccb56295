"""Options of the gateway: `SHORTSTACK_GATEWAY__*`, and the shared groups it reads."""

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from shared.access.tls_files import TlsFiles
from shared.access.tls_options import TlsGroup, faults_of
from shared.settings import (
    LogSettings,
    MetricsListen,
    ModelSettings,
    RedisSettings,
    ServiceSettings,
    TelemetrySettings,
)

# A tenant that has been idle may take at once what it could have taken in so long.
DEFAULT_BURST_S = 10.0


class GatewaySettings(TlsGroup):
    """SHORTSTACK_GATEWAY__*: the client's side."""

    group: ClassVar[str] = "GATEWAY"

    listen: str = Field("127.0.0.1:50051", description="`host:port` or `unix:/path` for clients")
    http_listen: str = Field(
        "", description="`host:port` or `unix:/path` of the OpenAI-compatible API; empty: none"
    )
    tls_requires_client_cert: bool = Field(
        False, description="turn clients without a certificate away (mTLS)"
    )
    cells_tls_ca_path: Path | None = Field(
        None, description="PEM certificates of those who sign verify workers'; empty: no TLS"
    )
    cells_tls_cert_path: Path | None = Field(
        None, description="PEM certificate shown to verify workers; their role is `gateway`"
    )
    cells_tls_key_path: Path | None = Field(None, description="PEM key of that certificate")
    api_keys_path: Path | None = Field(
        None, description="file of API keys, read again when it changes; empty: see API_KEYS"
    )
    api_keys: str = Field(
        "", description="API keys, in the form of such a file; neither: anybody may call"
    )
    health_is_open: bool = Field(
        True, description="answer health and reflection without an API key"
    )
    has_page: bool = Field(
        True, description="HTTP serves the web page at `/` and what it shows of cells and sessions"
    )
    cells: str = Field("", description="targets of verify workers, with commas; instead of Redis")
    poll_cells_ms: int = Field(1000, ge=50, description="how often cells are looked up")
    default_max_new_tokens: int = Field(256, ge=1, description="limit where a request names none")
    max_new_tokens: int = Field(4096, ge=1, description="most tokens one request may ask for")
    max_prompt_len: int = Field(0, ge=0, description="longest prompt in tokens; 0: the context")
    max_concurrent_requests: int = Field(256, ge=1, description="requests running at a time")
    max_queued_requests: int = Field(512, ge=0, description="requests that may wait to run")
    queue_timeout_ms: int = Field(30_000, ge=0, description="longest wait to run")
    low_priority_ageing_ms: int = Field(
        10_000, ge=0, description="wait after which a request of low priority counts as normal"
    )
    max_running_per_tenant: int = Field(
        0, ge=0, description="requests of one tenant running at a time; 0: no bound of its own"
    )
    tenant_tokens_per_s: float = Field(
        0.0, ge=0, description="tokens, prompts included, that a tenant may take; 0: any number"
    )
    tenant_burst_tokens: int = Field(
        0, ge=0, description="unused tokens that a tenant may save up; 0: those of 10 s"
    )
    request_timeout_ms: int = Field(300_000, ge=1, description="longest life of a request")
    slow_reader_timeout_ms: int = Field(
        30_000, ge=0, description="a client that takes nothing for so long loses its request; 0: no"
    )
    sse_comment_ms: int = Field(
        15_000,
        ge=0,
        description="an HTTP stream that had nothing to say for so long sends a comment; 0: no",
    )
    max_replays: int = Field(2, ge=0, description="other cells a request may be moved to")
    task_secret_path: Path | None = Field(
        None, description="file with the secret that keys of system prompts are made with"
    )
    metrics_listen: MetricsListen = ""
    drain_timeout_ms: int = Field(30_000, ge=0, description="time to finish after SIGTERM")
    has_reflection: bool = Field(False, description="answer gRPC reflection")

    @property
    def cell_targets(self) -> tuple[str, ...]:
        """The targets in `cells`."""
        return tuple(target.strip() for target in self.cells.split(",") if target.strip())

    @property
    def cells_tls_files(self) -> TlsFiles | None:
        """What the gateway shows to verify workers, and whom it trusts; None: no TLS."""
        if self.cells_tls_ca_path is None:
            return None
        return TlsFiles(self.cells_tls_cert_path, self.cells_tls_key_path, self.cells_tls_ca_path)

    @property
    def has_other_tls(self) -> bool:
        """Whether HTTP is served on the network."""
        return bool(self.http_listen) and not self.http_listen.startswith("unix:")

    @model_validator(mode="after")
    def _callers_can_be_told(self) -> "GatewaySettings":
        if self.tls_caller_names and self.has_other_tls:
            raise ValueError(
                "SHORTSTACK_GATEWAY__TLS_CALLERS: HTTP tells no names; leave it out, or"
                " SHORTSTACK_GATEWAY__HTTP_LISTEN, or serve HTTP on unix:/path"
            )
        return self

    @model_validator(mode="after")
    def _cells_tls_holds(self) -> "GatewaySettings":
        name = "SHORTSTACK_GATEWAY__CELLS_TLS"
        if (self.cells_tls_cert_path is None) != (self.cells_tls_key_path is None):
            raise ValueError(f"{name}_CERT_PATH and {name}_KEY_PATH need each other")
        if self.cells_tls_cert_path is not None and self.cells_tls_ca_path is None:
            raise ValueError(f"{name}_CERT_PATH needs {name}_CA_PATH")
        if faults := faults_of(self.cells_tls_files, name):
            raise ValueError("\n".join(faults))
        return self

    @property
    def burst_tokens(self) -> float:
        """Size of a tenant's token bucket."""
        return self.tenant_burst_tokens or DEFAULT_BURST_S * self.tenant_tokens_per_s

    @model_validator(mode="after")
    def _limits_agree(self) -> "GatewaySettings":
        if self.default_max_new_tokens > self.max_new_tokens:
            raise ValueError(
                "SHORTSTACK_GATEWAY__DEFAULT_MAX_NEW_TOKENS exceeds"
                " SHORTSTACK_GATEWAY__MAX_NEW_TOKENS"
            )
        if self.task_secret_path is not None and not _holds_something(self.task_secret_path):
            raise ValueError(
                "SHORTSTACK_GATEWAY__TASK_SECRET_PATH: there is no file"
                f" {self.task_secret_path} that can be read and is not empty"
            )
        if self.tenant_burst_tokens and not self.tenant_tokens_per_s:
            raise ValueError(
                "SHORTSTACK_GATEWAY__TENANT_BURST_TOKENS needs"
                " SHORTSTACK_GATEWAY__TENANT_TOKENS_PER_S"
            )
        return self


class GatewayServiceSettings(ServiceSettings):
    """All that the gateway reads from its environment."""

    model: ModelSettings
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    gateway: GatewaySettings = GatewaySettings()

    @model_validator(mode="after")
    def _cells_can_be_found(self) -> "GatewayServiceSettings":
        if bool(self.redis.url) == bool(self.gateway.cell_targets):
            raise ValueError(
                "set one of SHORTSTACK_REDIS__URL (registry of cells)"
                " and SHORTSTACK_GATEWAY__CELLS (fixed targets)"
            )
        return self


def _holds_something(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK) and bool(path.read_bytes().strip())
