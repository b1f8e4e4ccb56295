"""What both faces of a gateway, gRPC and HTTP, speak for. Knows neither."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.gateway.active import ActiveRequests
from services.gateway.api_keys import Caller, KeyRing
from services.gateway.cells import CellSource
from services.gateway.completion import CompletionTools
from services.gateway.model_infos import ModelInfos
from services.gateway.request import RequestLimits

MAX_KEPT_LIMITS = 1024


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
    # By the version of what the cells told, and by caller.
    _limits_of: dict[tuple[int, Caller], RequestLimits] = field(default_factory=dict)

    def current_limits(self) -> RequestLimits:
        """Return what anybody may ask for at most, by all that the cells have told so far."""
        model = self.infos.narrow(self.limits.model, self.limits.model_name)
        return replace(self.limits, model=model)

    def limits_of(self, caller: Caller) -> RequestLimits:
        """Return what a caller's requests may ask for; made once, not for each of them."""
        key = (self.infos.version, caller)
        limits = self._limits_of.get(key)
        if limits is None:
            if len(self._limits_of) >= MAX_KEPT_LIMITS:
                self._limits_of.clear()
            limits = self._limits_of[key] = caller.narrow(self.current_limits())
        return limits
