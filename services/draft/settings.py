"""Options of the draft worker: SHORTSTACK_DRAFT__* and the groups it shares."""

from pathlib import Path

from pydantic import Field

from shared.settings import Group, LogSettings, MetricsListen, ModelSettings, ServiceSettings


class DraftSettings(Group):
    """SHORTSTACK_DRAFT__*"""

    listen: str = Field(description="`unix:/path` in a directory of mode 700")
    runtime_dir: Path = Field(description="0700 directory for the liveness lock")
    exit_layer: int = Field(0, ge=0, description="layers to load at start, beyond half of them")
    has_reflection: bool = Field(True, description="serve gRPC reflection")
    metrics_listen: MetricsListen = ""
    drain_timeout_ms: int = Field(1000, ge=0, description="grace for the stream at shutdown")


class DraftServiceSettings(ServiceSettings):
    """Everything the draft worker reads."""

    model: ModelSettings
    log: LogSettings = LogSettings()
    draft: DraftSettings
