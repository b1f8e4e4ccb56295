"""Settings: one frozen class per service, read from the environment once, in its `main.py`.

Names are `SHORTSTACK_<GROUP>__<OPTION>`. A service owns the group of its own name and shares the
groups below. Libraries ignore a misspelt name that carries the right prefix, so `load_settings`
compares names itself. All faults are reported together, and the process ends before any port opens.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as MalformedValue

PREFIX = "SHORTSTACK_"
GROUPS = frozenset({"MODEL", "REDIS", "LOG", "TELEMETRY", "VERIFY", "SWIFT", "DRAFT", "GATEWAY"})


class SettingsError(Exception):
    """All faults of an environment, one per line."""


class Group(BaseModel):
    """A frozen group of options; an unknown option is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_host_port(address: str, info: ValidationInfo) -> str:
    """Refuse what is neither empty nor `host:port`."""
    host, _, port = address.rpartition(":")
    if address and not (host and port.isascii() and port.isdecimal() and int(port) < 65536):
        name = (info.field_name or "").upper()
        raise ValueError(
            f"{name} {address!r}: use host:port, such as 127.0.0.1:9400; ports end at 65535"
        )
    return address


# Where a service serves its metrics over HTTP; an option of every service's own group.
MetricsListen = Annotated[
    str,
    AfterValidator(_check_host_port),
    Field(description="`host:port` where /metrics is served over HTTP; empty: nowhere"),
]


class ModelSettings(Group):
    """SHORTSTACK_MODEL__*: the checkpoint and how to run it (draft and verify worker)."""

    path: Path = Field(description="Hugging Face directory: config.json, safetensors, tokenizer")
    name: str = Field("", description="name to serve it under; empty: the directory's name")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="weights and KV")
    device: str = Field("cpu", description="`cpu` or a CUDA device such as `cuda:0`")
    num_threads: int = Field(
        0, ge=0, description="compute threads of a worker; 0: what each pass is worth, at most all"
    )
    draft_vocab: str = Field(
        "auto",
        min_length=1,
        description="tokens that drafts are scored by: `auto` (draft_vocab.json in the model "
        "directory, if there), `off` (all), or a path",
    )
    exit_adapters: str = Field(
        "auto",
        min_length=1,
        description="what drafts read exits through: `auto` (exit_adapters in the model "
        "directory, if there), `off` (the raw exits), or a path",
    )
    draft_adapters: str = Field(
        "auto",
        min_length=1,
        description="what method kangaroo drafts with: `auto` (draft_adapters in the model "
        "directory, if there), `off`, or a path",
    )
    acceptance_heads: str = Field(
        "auto",
        min_length=1,
        description="what tells drafts how likely they are to be accepted: `auto` "
        "(acceptance_heads in the model directory, if there), `off` (score gaps alone), or a path",
    )

    @property
    def served_name(self) -> str:
        """Name that clients use."""
        return self.name or self.path.resolve().name


class RedisSettings(Group):
    """SHORTSTACK_REDIS__*: the registry of cells (verify worker and gateway), control state."""

    url: str = Field(
        "",
        description="any redis://, rediss:// or unix:// URL; empty: no registry, nothing is kept",
    )
    lease_ttl_ms: int = Field(5000, ge=500, description="a cell that stops renewing is forgotten")
    renew_ms: int = Field(1500, ge=100, description="time between renewals")
    socket_timeout_ms: int = Field(
        50, ge=1, description="longest wait for a connection, and for an answer of the registry"
    )
    write_timeout_ms: int = Field(
        200, ge=1, description="longest wait for one answer about control state, in the background"
    )
    claim_timeout_ms: int = Field(
        5, ge=1, description="longest wait of a new session for what its last turn left"
    )
    session_ttl_s: int = Field(
        7200, ge=1, description="what a conversation left is kept for so long after its last turn"
    )
    shares_priors: bool = Field(
        True, description="busy tenants' counts of acceptance add to what all tenants begin with"
    )

    @field_serializer("url")
    def _hide_password(self, url: str) -> str:
        """Settings are logged and told to whoever asks a worker; passwords are not."""
        return without_password(url)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    return re.sub(r"(://[^/@]*:)[^/@]*@", r"\1***@", url)


class LogSettings(Group):
    """SHORTSTACK_LOG__*: logs of every service."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level")


class TelemetrySettings(Group):
    """SHORTSTACK_TELEMETRY__*: traces of every service."""

    endpoint: str = Field(
        "",
        description="OTLP over gRPC: `host:port`, `http://host:port`, or `https://host:port` for "
        "TLS; empty: no traces",
    )
    ca_path: Path | None = Field(
        None, description="certificates that a TLS endpoint is checked with; none: the system's"
    )
    sampling_ratio: float = Field(
        0.01, ge=0, le=1, description="share of requests traced whose caller has not decided"
    )
    records_text: bool = Field(False, description="put prompts and outputs into traces")
    instance: str = Field(
        "", description="`service.instance.id` of this process; empty: made at start"
    )

    @property
    def is_secure(self) -> bool:
        """Whether the endpoint is spoken to over TLS."""
        return self.endpoint.startswith("https://")

    @field_validator("endpoint")
    @classmethod
    def _endpoint_can_be_called(cls, endpoint: str) -> str:
        if fault := endpoint_fault(endpoint):
            raise ValueError(f"SHORTSTACK_TELEMETRY__ENDPOINT: {fault}")
        return endpoint

    @model_validator(mode="after")
    def _ca_is_of_use(self) -> "TelemetrySettings":
        if self.ca_path is None:
            return self
        if not self.is_secure:
            raise ValueError(
                "SHORTSTACK_TELEMETRY__CA_PATH needs an endpoint that begins with https://"
            )
        if not (self.ca_path.is_file() and os.access(self.ca_path, os.R_OK)):
            raise ValueError(
                f"SHORTSTACK_TELEMETRY__CA_PATH: there is no file {self.ca_path} that can be read"
            )
        return self


def endpoint_fault(endpoint: str) -> str:
    """Return what is wrong with an OTLP endpoint; nothing: an empty text, as for no endpoint."""
    if not endpoint or _is_host_and_port(endpoint):
        return ""
    return f"{endpoint!r} is not host:port, http://host:port or https://host:port"


def _is_host_and_port(endpoint: str) -> bool:
    """Say whether an address names a host and a port, behind a scheme or bare, and no more."""
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
    except ValueError:
        return False
    names_more = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and not names_more
    )


class ServiceSettings(BaseSettings):
    """Base of the services' settings classes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the caller alone: `load_settings` is the one reader of environments."""
        return (init_settings,)

    def to_json(self) -> str:
        """Return all options as one line of JSON, for the start line and the info call."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def load_settings(cls: type[SettingsT], environ: Mapping[str, str]) -> SettingsT:
    """Read and check a service's settings.

    Raises:
        SettingsError: with every fault found: unknown names, missing and malformed values.
    """
    faults = _unknown_names(cls, environ)
    settings = None
    try:
        settings = cls(**_values_of(cls, environ))
    except ValidationError as error:
        # Unknown options are in `faults` already, with the known ones.
        known = [fault for fault in error.errors() if fault["type"] != "extra_forbidden"]
        faults += [_describe(fault) for fault in known]
    except MalformedValue as error:
        faults.append(str(error))
    if faults or settings is None:
        raise SettingsError("\n".join(sorted(set(faults))))
    return settings


def _values_of(cls: type[ServiceSettings], environ: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(cls)
    source.env_vars = {name.lower(): value for name, value in environ.items()}
    # A group that is not mentioned is empty, so that its missing options are named one by one.
    return {group: {} for group in cls.model_fields} | source()


def _unknown_names(cls: type[ServiceSettings], environ: Mapping[str, str]) -> list[str]:
    faults = []
    for name in environ:
        if not name.upper().startswith(PREFIX):
            continue
        group, _, option = name.upper().removeprefix(PREFIX).partition("__")
        if group not in GROUPS:
            known = ", ".join(f"{PREFIX}{known}__" for known in sorted(GROUPS))
            faults.append(f"{name}: unknown group; names begin with one of {known}")
        elif group.lower() in cls.model_fields and option.lower() not in options_of(cls, group):
            known = ", ".join(sorted(options_of(cls, group)))
            faults.append(f"{name}: unknown option; {PREFIX}{group}__ has {known}")
    return faults


def options_of(cls: type[ServiceSettings], group: str) -> frozenset[str]:
    """Return the option names of one group of a settings class."""
    annotation = cls.model_fields[group.lower()].annotation
    assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return frozenset(annotation.model_fields)


def _describe(fault: Any) -> str:
    name = PREFIX + "__".join(str(part).upper() for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{name}: missing; set it"
    if fault["type"] == "value_error":
        # A contradiction between options; it names them itself.
        return str(fault["ctx"]["error"])
    return f"{name}: {fault['msg']} (got {fault['input']!r})"


def check_private_socket(listen: str, name: str) -> None:
    """Refuse a socket file in a folder that others may enter; a `host:port` is none.

    Raises:
        SettingsError: names the option.
    """
    if listen.startswith("unix:"):
        make_private_dir(Path(listen.removeprefix("unix:")).absolute().parent, name)


def make_private_dir(path: Path, name: str) -> None:
    """Make a directory that only this user can enter; sockets and locks of a cell lie in it.

    Raises:
        SettingsError: it exists and others may enter it; `name` is the option that names it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise SettingsError(f"{name}: {path} must be this user's own, with mode 700 (chmod 700)")
