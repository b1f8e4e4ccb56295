"""Options of the gateway: `SHORTSTACK_GATEWAY__*`, and the shared groups it reads."""

from pydantic import Field, model_validator

from shared.settings import Group, LogSettings, ModelSettings, RedisSettings, ServiceSettings


class GatewaySettings(Group):
    """SHORTSTACK_GATEWAY__*: the client's side."""

    listen: str = Field("127.0.0.1:50051", description="`host:port` or `unix:/path` for clients")
    cells: str = Field("", description="targets of verify workers, with commas; instead of Redis")
    poll_cells_ms: int = Field(1000, ge=50, description="how often cells are looked up")
    default_max_new_tokens: int = Field(256, ge=1, description="limit where a request names none")
    max_new_tokens: int = Field(4096, ge=1, description="most tokens one request may ask for")
    max_prompt_len: int = Field(0, ge=0, description="longest prompt in tokens; 0: the context")
    max_concurrent_requests: int = Field(256, ge=1, description="requests running at a time")
    max_queued_requests: int = Field(512, ge=0, description="requests that may wait to run")
    queue_timeout_ms: int = Field(30_000, ge=0, description="longest wait to run")
    request_timeout_ms: int = Field(300_000, ge=1, description="longest life of a request")
    max_replays: int = Field(2, ge=0, description="other cells a request may be moved to")
    drain_timeout_ms: int = Field(30_000, ge=0, description="time to finish after SIGTERM")
    has_reflection: bool = Field(False, description="answer gRPC reflection")

    @property
    def cell_targets(self) -> tuple[str, ...]:
        """The targets in `cells`."""
        return tuple(target.strip() for target in self.cells.split(",") if target.strip())

    @model_validator(mode="after")
    def _limits_agree(self) -> "GatewaySettings":
        if self.default_max_new_tokens > self.max_new_tokens:
            raise ValueError(
                "SHORTSTACK_GATEWAY__DEFAULT_MAX_NEW_TOKENS exceeds"
                " SHORTSTACK_GATEWAY__MAX_NEW_TOKENS"
            )
        return self


class GatewayServiceSettings(ServiceSettings):
    """All that the gateway reads from its environment."""

    model: ModelSettings
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()
    gateway: GatewaySettings = GatewaySettings()

    @model_validator(mode="after")
    def _cells_can_be_found(self) -> "GatewayServiceSettings":
        if bool(self.redis.url) == bool(self.gateway.cell_targets):
            raise ValueError(
                "set one of SHORTSTACK_REDIS__URL (registry of cells)"
                " and SHORTSTACK_GATEWAY__CELLS (fixed targets)"
            )
        return self
