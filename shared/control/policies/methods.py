"""The methods that a policy may choose from. Pure."""

from shared.control.policies.exits import AUTO
from shared.errors import InvalidRequest
from shared.speculation.methods.base import DraftMeans
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import OFF


def parse_methods(text: str, default: str, means: DraftMeans) -> tuple[str, ...]:
    """Read a setting: `auto`, or methods by comma.

    `auto` is the default method alone. Others are named: in short answers what auditions of an arm
    cost is not won back where drafts do not pay at all.

    Raises:
        InvalidRequest: there is no such method, or this cell lacks what it needs.
    """
    if text.strip() == AUTO:
        return () if default == OFF else (default,)
    names = tuple(part.strip() for part in text.split(","))
    if len(set(names)) < len(names):
        raise InvalidRequest(f"methods {text!r} name one twice", field="methods")
    for name in names:
        if fault := method_named(name).fault(means):
            raise InvalidRequest(fault, field="methods")
    return names
