"""What both faces of a gateway, gRPC and HTTP, speak for. Knows neither."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.gateway.active import ActiveRequests
from services.gateway.api_keys import Caller, KeyRing
from services.gateway.cells import CellSource
from services.gateway.completion import CompletionTools
from services.gateway.model_infos import ModelInfos
from services.gateway.request import RequestLimits


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """The objects that all requests of a gateway share, and the options of both faces."""

    tools: CompletionTools
    cells: CellSource
    infos: ModelInfos
    limits: RequestLimits
    request_timeout_s: float
    slow_reader_timeout_s: float
    active: ActiveRequests = field(default_factory=ActiveRequests)
    # Without keys anybody may call.
    authenticate: Callable[[str | None], Caller] = KeyRing(()).authenticate
    health_is_open: bool = True

    def current_limits(self) -> RequestLimits:
        """Return what a request may ask for, by all that the cells have told so far."""
        model = self.infos.narrow(self.limits.model, self.limits.model_name)
        return replace(self.limits, model=model)
