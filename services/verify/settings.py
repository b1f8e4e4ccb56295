"""Options of the verify worker: SHORTSTACK_VERIFY__* and the groups it shares."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from shared.access.tls_options import TlsGroup
from shared.control.overlap import Overlap
from shared.control.policies.registry import POLICY_NAMES
from shared.settings import (
    Group,
    LogSettings,
    MetricsListen,
    ModelSettings,
    RedisSettings,
    ServiceSettings,
    TelemetrySettings,
)


class VerifySettings(TlsGroup):
    """SHORTSTACK_VERIFY__*; the certificate is shown to a draft worker on `host:port`, too."""

    group: ClassVar[str] = "VERIFY"

    listen: str = Field(description="`host:port` or `unix:/path` that gateways call")
    tls_callers: str = Field(
        "urn:shortstack:role:gateway",
        description="names (SAN) of which a caller's certificate must hold one, by comma",
    )
    advertise: str = Field("", description="address in the lease; empty: the one listened on")
    runtime_dir: Path = Field(description="0700 directory for locks and sockets of the cell")
    cell_id: str = Field("cell-0", min_length=1, description="name of the cell")
    cell_kind: Literal["split", "fused", "plain"] = Field(
        "split", description="drafts by another process, in this one, or none"
    )
    draft_target: str = Field("", description="where the draft worker listens (split cells)")
    page_size: int = Field(16, ge=1, le=4096, description="positions of a KV page")
    num_pages: int = Field(0, ge=0, description="pages of the pool; 0: derived from the sessions")
    max_sessions: int = Field(32, ge=1, le=4096, description="sessions at a time")
    max_waiting: int = Field(64, ge=0, description="sessions waiting for room; more are refused")
    queue_timeout_ms: int = Field(30_000, ge=1, description="longest wait for room")
    method: Literal["layerskip", "kangaroo", "swift", "off"] = Field(
        "layerskip", description="default method; `kangaroo` needs a draft adapter"
    )
    exit_layer: int = Field(
        0, ge=0, description="default exit layer E; 0: a quarter of the layers, or the adapter's"
    )
    draft_len: int = Field(4, ge=0, description="default draft length d")
    stop_threshold: float = Field(0.0, ge=0, le=1, description="default confidence to go on")
    policy: str = Field(
        "goodput", description="what decides each round of requests that do not say"
    )
    exits: str = Field(
        "auto", description="exit layers that policies choose from, by comma; `auto`: up to half"
    )
    methods: str = Field(
        "auto",
        description="methods that `goodput` chooses from for requests that name none, by comma; "
        "`auto`: the default one",
    )
    max_draft_len: int = Field(16, ge=1, le=256, description="longest draft a request may ask for")
    prefill_chunk_len: int = Field(512, ge=1, description="most prompt rows of one pass")
    max_stretch: float = Field(
        1.6, ge=1, description="times by which prompts may stretch a pass of running sessions"
    )
    sheds: bool = Field(True, description="leave drafts out where they cost more than they bring")
    trees: Literal["auto", "off"] = Field(
        "auto", description="whether `goodput` may let drafts branch, where that is faster"
    )
    overlap: Overlap = Field(
        Overlap.AUTO,
        description="`on`: draft for half of the sessions while the others are verified; `off`: "
        "one batch of all; `auto`: what is measured to deliver more",
    )
    prefix_sharing: Literal["off", "tenant", "all"] = Field(
        "all", description="whose prompts may share pages: nobody's, one tenant's, everybody's"
    )
    trace_path: Path | None = Field(
        None, description="file for a trace of the last steps, written when the worker ends"
    )
    round_timeout_ms: int = Field(250, ge=1, description="least time before a round is abandoned")
    max_unread: int = Field(1024, ge=1, description="unread tokens that pause a session")
    metrics_listen: MetricsListen = ""
    drain_timeout_ms: int = Field(30_000, ge=0, description="time for sessions at shutdown")
    has_reflection: bool = Field(True, description="serve gRPC reflection")

    @property
    def has_other_tls(self) -> bool:
        """Whether the draft worker is called over the network."""
        return bool(self.draft_target) and not self.draft_target.startswith("unix:")

    @model_validator(mode="after")
    def _check_together(self) -> "VerifySettings":
        if self.cell_kind == "split" and not self.draft_target:
            raise ValueError("a split cell needs DRAFT_TARGET, the draft worker's address")
        if self.draft_len > self.max_draft_len:
            raise ValueError(f"DRAFT_LEN {self.draft_len} exceeds MAX_DRAFT_LEN")
        if self.policy not in POLICY_NAMES:
            raise ValueError(f"POLICY {self.policy}: use one of {', '.join(POLICY_NAMES)}")
        if self.trace_path is not None and not self.trace_path.parent.is_dir():
            raise ValueError(f"TRACE_PATH: there is no folder {self.trace_path.parent}")
        return self


class SwiftSettings(Group):
    """SHORTSTACK_SWIFT__*: drafts of method `swift`, and the search for what they leave out."""

    skip_ratio: float = Field(
        0.45, ge=0, le=0.9, description="share of the sub-layers open to choice that is left out"
    )
    search_share: float = Field(
        0.02, ge=0, le=1, description="most of the steps' time that searches take; 0: no search"
    )
    window_len: int = Field(
        32, ge=8, le=1024, description="committed tokens that sets are scored by at a time"
    )
    num_challengers: int = Field(
        3, ge=1, le=32, description="sets scored on a window beside the one in use"
    )
    interval_rounds: int = Field(
        8, ge=1, description="least rounds of a task stream between two windows"
    )
    max_score: float = Field(
        0.95, gt=0, le=1, description="mean score at which a set is good enough"
    )
    max_live_sets: int = Field(
        4, ge=1, description="different sets in use; further task streams take the nearest"
    )


class VerifyServiceSettings(ServiceSettings):
    """Everything the verify worker reads."""

    model: ModelSettings
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    swift: SwiftSettings = SwiftSettings()
    verify: VerifySettings
