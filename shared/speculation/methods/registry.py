"""The methods that there are, by name."""

from shared.errors import InvalidRequest
from shared.speculation.methods.base import DraftMeans, Method
from shared.speculation.methods.kangaroo import Kangaroo
from shared.speculation.methods.layerskip import LayerSkip
from shared.speculation.methods.swift import Swift

METHODS: dict[str, Method] = {method.name: method for method in (LayerSkip(), Kangaroo(), Swift())}


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


def methods_with(means: DraftMeans) -> list[str]:
    """Return the names of the methods that can run with these means."""
    return sorted(name for name, method in METHODS.items() if not method.fault(means))
