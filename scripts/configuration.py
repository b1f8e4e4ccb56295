"""Writes the tables of docs/configuration.md from the settings classes, or checks that they agree.

python scripts/configuration.py           write
python scripts/configuration.py --check   exit status 1 if the document is stale
"""

import sys
from pathlib import Path

from marked_tables import write_or_check
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from services.draft.settings import DraftServiceSettings
from services.gateway.settings import GatewayServiceSettings
from services.verify.settings import VerifyServiceSettings
from shared.settings import PREFIX

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
MARKS = ("<!-- tables: made by scripts/configuration.py -->", "<!-- end of the tables -->")
CLASSES = (DraftServiceSettings, VerifyServiceSettings, GatewayServiceSettings)


def main(arguments: list[str]) -> int:
    """Write or check the document."""
    return write_or_check(DOCUMENT, MARKS, tables(), arguments, "python scripts/configuration.py")


def tables() -> str:
    """Return one table per group, each group once."""
    return "\n".join(table(name, group) for name, group in groups().items())


def groups() -> dict[str, type[BaseModel]]:
    """Return the groups of all services by name."""
    found: dict[str, type[BaseModel]] = {}
    for cls in CLASSES:
        for name, field in cls.model_fields.items():
            assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            found[name] = field.annotation
    return found


def table(name: str, group: type[BaseModel]) -> str:
    """Return the table of a group."""
    readers = [cls.__name__.removesuffix("ServiceSettings").lower() for cls in CLASSES
               if name in cls.model_fields]  # fmt: skip
    lines = [
        f"### `{PREFIX}{name.upper()}__*`",
        "",
        f"Read by: {', '.join(readers)}.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for option, field in group.model_fields.items():
        variable = f"`{PREFIX}{name.upper()}__{option.upper()}`"
        lines.append(f"| {variable} | {default_of(field)} | {field.description} |")
    return "\n".join([*lines, ""])


def default_of(field: FieldInfo) -> str:
    """Return a field's default as one would write it into the environment."""
    if field.is_required():
        return "required"
    return f"`{field.default}`" if field.default != "" else "empty"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
