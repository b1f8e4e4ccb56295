"""Options of the draft worker: SHORTSTACK_DRAFT__* and the groups it shares."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.access.tls_options import TlsGroup
from shared.settings import (
    LogSettings,
    MetricsListen,
    ModelSettings,
    ServiceSettings,
    TelemetrySettings,
)


class DraftSettings(TlsGroup):
    """SHORTSTACK_DRAFT__*"""

    group: ClassVar[str] = "DRAFT"

    listen: str = Field(
        description="`unix:/path` in a directory of mode 700, or `host:port` with mTLS"
    )
    tls_callers: str = Field(
        "urn:shortstack:role:verify",
        description="names (SAN) of which a caller's certificate must hold one, by comma",
    )
    trusts_network: bool = Field(
        False, description="listen on `host:port` without mTLS: whoever reaches it is trusted"
    )
    runtime_dir: Path = Field(description="0700 directory for the liveness lock")
    exit_layer: int = Field(0, ge=0, description="layers to load at start, beyond half of them")
    has_reflection: bool = Field(True, description="serve gRPC reflection")
    metrics_listen: MetricsListen = ""
    drain_timeout_ms: int = Field(
        1000, ge=0, description="time to answer the rounds in hand at shutdown"
    )


class DraftServiceSettings(ServiceSettings):
    """Everything the draft worker reads."""

    model: ModelSettings
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    draft: DraftSettings
