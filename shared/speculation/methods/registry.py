"""The methods that there are, by name."""

from shared.errors import InvalidRequest
from shared.speculation.methods.base import Method
from shared.speculation.methods.layerskip import LayerSkip

METHODS: dict[str, Method] = {method.name: method for method in (LayerSkip(),)}


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        InvalidRequest: there is none of this name.
    """
    if name not in METHODS:
        known = ", ".join([*sorted(METHODS), "off"])
        raise InvalidRequest(
            f"method {name!r} is not known; use one of {known}", field="speculation.method"
        )
    return METHODS[name]
