"""The model list: what is served, as far as the settings and the cells tell it."""

from typing import Any

from services.gateway.parts import GatewayParts
from shared.errors import ModelNotFound
from shared.rpc import shortstack_pb2 as pb

OWNER = "shortstack"


class ModelList:
    """The served model; a gateway has one."""

    def __init__(self, parts: GatewayParts, created_s: int) -> None:
        """Take what tells the model, and since when it is served."""
        self._parts = parts
        self._created_s = created_s

    def list(self) -> dict[str, Any]:
        """Return all models."""
        return {"object": "list", "data": [self._describe()]}

    def find(self, model_id: str) -> dict[str, Any]:
        """Return one model.

        Raises:
            ModelNotFound: it is not served.
        """
        served = self._parts.limits.model_name
        if model_id != served:
            raise ModelNotFound(
                f"model {model_id[:100]!r} is not served; {served!r} is", field="model"
            )
        return self._describe()

    def _describe(self) -> dict[str, Any]:
        limits = self._parts.current_limits()
        infos = self._parts.infos.of_model(limits.model_name)
        return {
            "id": limits.model_name,
            "object": "model",
            "created": self._created_s,
            "owned_by": OWNER,
            # The name that other servers give it.
            "max_model_len": limits.model.max_context_len,
            "context_length": limits.model.max_context_len,
            "methods": sorted({method for info in infos for method in info.methods}),
            "exit_layers": _exit_layers_of(infos),
            "default_exit_layers": sorted(
                {
                    info.default_speculation.exit_layer
                    for info in infos
                    if info.default_speculation.HasField("exit_layer")
                }
            ),
        }


def _exit_layers_of(infos: list[pb.GetVerifyInfoResponse]) -> list[int]:
    """Return the exits that every cell can draft from, [1, L-1]; none while L is not known."""
    num_layers = min((info.model.num_layers for info in infos), default=0)
    return list(range(1, num_layers))
